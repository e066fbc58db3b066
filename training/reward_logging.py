"""How the policy answers, logged beside the reward: what the reward alone does not show."""

from collections.abc import Callable, Sequence
from typing import Any

from star_tvr.training.answers import completion_text, parse, parse_truth
from star_tvr.training.rewards import RewardFunction


def with_answer_statistics(reward: RewardFunction) -> RewardFunction:
    """The same reward function, which also logs how the policy answers.

    It adds to every logged step the share of completions that are right in full (`tacc`; a move
    counts as it is written, not by where it leads), the mean of n_pred - n_gt (`count_gap`), the
    shares of completions without any prediction (`empty`) and with more predictions than twice
    the truth (`enumerating`), and to the table of completions what they were asked and the truth.
    """

    def accuracy_reward(
        completions: Sequence[Any],
        truth: Sequence[str],
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        given = [parse(completion_text(c)).predictions for c in completions]
        wanted = [parse_truth(t) for t in truth]
        pairs = [(len(g), len(w)) for g, w in zip(given, wanted, strict=True)]
        if log_metric is not None and pairs:
            right = right_in_full(completions, truth)
            log_metric("tacc", sum(right) / len(right))
            log_metric("count_gap", sum(g - w for g, w in pairs) / len(pairs))
            log_metric("empty", sum(g == 0 for g, _ in pairs) / len(pairs))
            log_metric("enumerating", sum(g > 2 * w for g, w in pairs) / len(pairs))
        if log_extra is not None:
            for name in ("sample", "initial", "final", "epoch"):
                if name in columns:
                    log_extra(name, list(columns[name]))
            log_extra("truth", list(truth))
        return reward(completions, truth=truth, **columns)

    return accuracy_reward


def right_in_full(completions: Sequence[Any], truth: Sequence[str]) -> list[bool]:
    """Which completions name all changes and nothing else; a move counts as it is written."""
    given = [parse(completion_text(c)).predictions for c in completions]
    wanted = [parse_truth(t) for t in truth]
    return [sorted(map(str, g)) == sorted(map(str, w)) for g, w in zip(given, wanted, strict=True)]

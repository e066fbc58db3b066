"""The reward in the calling conventions of other trainers; neither of them is imported.

verifiers:

    rubric = verifiers.Rubric(funcs=list(verifiers_rewards("star")), weights=[1.0, 1.0])

with the answer string in the data set's column `answer`.

verl (`custom_reward_function.path` takes a file or `pkg://star_tvr.training.integrations`):

    custom_reward_function.path=pkg://star_tvr.training.integrations
    custom_reward_function.name=compute_score
    +custom_reward_function.reward_kwargs.preset=star

with the answer string as `reward_model.ground_truth` of every row.
"""

from collections.abc import Callable, Mapping
from typing import Any

from star_tvr.training.rewards import (
    Matching,
    Reward,
    Truth,
    accuracy_reward,
    format_reward,
    score,
)


def verifiers_rewards(
    reward: str | Reward = "star",
) -> tuple[Callable[..., float], Callable[..., float]]:
    """Two reward functions for a `verifiers.Rubric`, for the form and for the answer.

    Verifiers passes arguments by name: `completion` (messages or text) and `answer` (the true
    answer string) are used, the others are swallowed.

    >>> form, accuracy = verifiers_rewards()
    >>> accuracy(completion="<answer>2.color.cyan</answer>", answer="2.color.cyan", state={})
    5.0

    Raises:
        ConfigError: there is no such preset.
    """
    form, accuracy = format_reward(reward), accuracy_reward(reward)

    def tvr_format(completion: Any, **kwargs: Any) -> float:
        return form([completion])[0] or 0.0

    def tvr_accuracy(completion: Any, answer: Truth, **kwargs: Any) -> float:
        return accuracy([completion], truth=[answer])[0] or 0.0

    return tvr_format, tvr_accuracy


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Truth,
    extra_info: Mapping[str, Any] | None = None,
    *,
    preset: str = "star",
    matching: Matching | None = None,
    weights: Mapping[str, float | bool] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    """A reward function for verl, which trains on `score` and logs the rest.

    >>> compute_score("tvr", "<answer>2.color.cyan</answer>", "2.color.cyan")
    {'score': 5.0, 'format': 0.0, 'accuracy': 5.0}

    Args:
        data_source, extra_info: not used.
        solution_str: the completion.
        ground_truth: the true answer string.
        preset, matching, weights: as in `training.rewards.score`.
        kwargs: what later versions of verl may pass.

    Raises:
        ConfigError: there is no such preset, matching or weight.
        TripletError: the truth is not in the answer language.
    """
    result = score(solution_str, ground_truth, preset, matching, weights)
    return {"score": result.total, "format": result.format, "accuracy": result.accuracy}

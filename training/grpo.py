"""Reinforcement learning from the verifiable reward, with TRL's GRPOTrainer."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from star_tvr.schemas.dataset import Dataset
from star_tvr.training import sft
from star_tvr.training.answers import completion_text, parse, parse_truth
from star_tvr.training.config import (
    TrainConfig,
    check_config,
    load_stages,
    reader,
    run_from_command_line,
    trainer_arguments,
)
from star_tvr.training.rewards import RewardFunction, accuracy_reward, format_reward
from star_tvr.training.scene_rewards import extra_rewards


def run(config_path: str | Path, overrides: Iterable[str] = ()) -> Path:
    """Train as a configuration says, or go on where the same run stopped.

    A configuration with a block `cold-start` is run in two stages, SFT first.

    Returns:
        The run's folder, which holds the model or adapter and its processor.

    Raises:
        ConfigError: before anything is loaded, for whatever can be found wrong by then.
        TvrError: the data, the model or the training failed.
    """
    stages = load_stages("grpo", config_path, overrides)
    for k, stage in enumerate(stages):
        check_config(stage, model=k == 0)
        trainer_arguments(stage)
    for stage in stages:
        folder = sft.train(stage) if stage.kind == "sft" else train(stage)
    return folder


def train(config: TrainConfig) -> Path:
    """See `run`."""
    dataset = check_config(config)
    from trl import GRPOTrainer

    from star_tvr.training import runs

    return runs.train(config, dataset, GRPOTrainer, reward_funcs=reward_functions(config, dataset))


def reward_functions(config: TrainConfig, dataset: Dataset) -> list[RewardFunction]:
    """Form and answer, which add up to the reward of `training.rewards.score`, and the extras.

    Each is logged apart.
    """
    weights = config.reward.resolve()
    return [
        format_reward(weights=weights),
        with_habits(accuracy_reward(matching=config.reward.matching, weights=weights)),
        *extra_rewards(config.reward.extra, reader(config, dataset).facts),
    ]


def with_habits(reward: RewardFunction) -> RewardFunction:
    """The same reward function, which also logs how the policy answers.

    It adds to every logged step the share of completions that are right in full (`tacc`; a move
    counts as it is written, not by where it leads), the mean
    of n_pred - n_gt (`count_gap`), the shares of completions without any prediction (`silent`) and
    with more predictions than twice the truth (`enumerating`), and to the table of completions what
    they were asked and the truth.
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
            right = [
                sorted(map(str, g)) == sorted(map(str, w))
                for g, w in zip(given, wanted, strict=True)
            ]
            log_metric("tacc", sum(right) / len(right))
            log_metric("count_gap", sum(g - w for g, w in pairs) / len(pairs))
            log_metric("silent", sum(g == 0 for g, _ in pairs) / len(pairs))
            log_metric("enumerating", sum(g > 2 * w for g, w in pairs) / len(pairs))
        if log_extra is not None:
            for name in ("sample", "initial", "final", "epoch"):
                if name in columns:
                    log_extra(name, list(columns[name]))
            log_extra("truth", list(truth))
        return reward(completions, truth=truth, **columns)

    return accuracy_reward


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m training.grpo CONFIG [--set key=value]…`; returns the exit status."""
    return run_from_command_line(run, "training.grpo", arguments)


if __name__ == "__main__":
    sys.exit(main())

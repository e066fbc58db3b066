"""Supervised fine-tuning on true answers or true reasoning, with TRL's SFTTrainer."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from star_tvr.training.config import (
    TrainConfig,
    check_config,
    load_stages,
    run_from_command_line,
)


def run(config_path: str | Path, overrides: Iterable[str] = ()) -> Path:
    """Train as a configuration says, or go on where the same run stopped.

    Returns:
        The run's folder, which holds the model or adapter and its processor.

    Raises:
        ConfigError: before anything is loaded, for whatever can be found wrong by then.
        TvrError: the data, the model or the training failed.
    """
    [config] = load_stages("sft", config_path, overrides)
    return train(config)


def train(config: TrainConfig) -> Path:
    """See `run`."""
    dataset = check_config(config)
    from trl import SFTTrainer

    from star_tvr.training import runs

    return runs.train(config, dataset, SFTTrainer)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m training.sft CONFIG [--set key=value]…`; returns the exit status."""
    return run_from_command_line(run, "training.sft", arguments)


if __name__ == "__main__":
    sys.exit(main())

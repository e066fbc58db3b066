"""Supervised fine-tuning on true answers or true reasoning, with TRL's SFTTrainer."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from training.config import (
    TrainConfig,
    check_config,
    load_stages,
    run_from_command_line,
    trainer_arguments,
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
    args = trainer_arguments(config)
    from trl import SFTTrainer

    from training import runs
    from training.models import lora_config

    with args.main_process_first(desc="opening the run"):
        found = runs.open_run(config)
    if found.done:
        return config.output_dir
    rows = runs.rows(config, dataset, args)
    model, processor = runs.load(config, dataset.world, args)
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        processing_class=processor,
        peft_config=None if config.lora is None else lora_config(model, config.lora),
    )
    return runs.train(trainer, config, found.checkpoint)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m training.sft CONFIG [--set key=value]…`; returns the exit status."""
    return run_from_command_line(run, "training.sft", arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Supervised fine-tuning on true answers or true reasoning, with TRL's SFTTrainer.

python -m star_tvr.training.sft CONFIG [--set key=value]…
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from star_tvr.schemas.dataset import Dataset
from star_tvr.training.checks import check_config
from star_tvr.training.config import TrainConfig, load_stages
from star_tvr.training.fresh_renderer import Feeding
from star_tvr.training.initial_model import load_initial_model
from star_tvr.training.launch import run_from_command_line
from star_tvr.training.models import adapters_to_train
from star_tvr.training.picture_size import seen_size
from star_tvr.training.run_folder import close_run, lock_run, open_run
from star_tvr.training.training_rows import training_rows
from star_tvr.training.trl_arguments import trainer_arguments
from star_tvr.training.validation import Validation, validating

if TYPE_CHECKING:
    from trl import GRPOConfig, SFTConfig


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
    """Train one stage. See `run`."""
    # What can be refused is refused here; nothing is written yet.
    dataset = check_config(config)
    args = trainer_arguments(config)
    with lock_run(config, args), Feeding(config, dataset, args) as feeding:
        return _train(config, dataset, args, feeding)


def _train(
    config: TrainConfig, dataset: Dataset, args: "SFTConfig | GRPOConfig", feeding: Feeding
) -> Path:
    """Train, in a folder that nobody else writes to."""
    with args.main_process_first(desc="opening the run"):
        begun = open_run(config, dataset, args.world_size)
    if begun.done:
        return config.output_dir

    with args.main_process_first(desc="beginning to render"):
        feeding.begin(begun.checkpoint)
    model, processor = load_initial_model(config, dataset.world, args, begun.checkpoint)
    seen = seen_size(processor, dataset)
    # The rows are planned now and read when they are used.
    rows = training_rows(config, dataset, args, seen)

    # These take seconds, which a configuration that is refused should not.
    from trl import SFTTrainer

    from star_tvr.training.callbacks import add_callbacks
    from star_tvr.training.full_disk import explain_full_disk
    from star_tvr.training.sharding import gather_output_layer

    validation = Validation.of(config, processor)
    trainer = validating(SFTTrainer, validation)(
        model=model,
        args=args,
        train_dataset=rows,
        eval_dataset=validation and validation.questions,
        processing_class=processor,
        peft_config=adapters_to_train(config, model),
    )
    gather_output_layer(trainer)
    add_callbacks(trainer, config)
    feeding.follow(trainer)
    with explain_full_disk(trainer):
        trainer.train(resume_from_checkpoint=begun.checkpoint and str(begun.checkpoint))
        trainer.save_model()
        close_run(trainer, config, dataset)
    return config.output_dir


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of launchers; returns the exit status."""
    return run_from_command_line(run, "training.sft", arguments)


if __name__ == "__main__":
    sys.exit(main())

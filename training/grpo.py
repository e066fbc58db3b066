"""Reinforcement learning from the verifiable reward, with TRL's GRPOTrainer.

python -m star_tvr.training.grpo CONFIG [--set key=value]…

This is TRL's GRPO; training/config.py says where its defaults are departed from, and why.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from star_tvr.schemas.dataset import Dataset
from star_tvr.training import sft
from star_tvr.training.checks import check_config
from star_tvr.training.config import TrainConfig, load_stages
from star_tvr.training.custom_rewards import custom_rewards
from star_tvr.training.fresh_renderer import Feeding
from star_tvr.training.initial_model import free_models, load_initial_model
from star_tvr.training.launch import run_from_command_line
from star_tvr.training.models import adapters_to_train
from star_tvr.training.picture_size import seen_size
from star_tvr.training.reward_logging import with_answer_statistics
from star_tvr.training.rewards import RewardFunction, accuracy_reward, format_reward
from star_tvr.training.rows import row_reader
from star_tvr.training.run_folder import close_run, lock_run, open_run
from star_tvr.training.scene_facts import Size
from star_tvr.training.scene_rewards import extra_rewards
from star_tvr.training.training_rows import training_rows
from star_tvr.training.trl_arguments import trainer_arguments
from star_tvr.training.validation import Validation, validating
from star_tvr.training.vllm_prompts import read_as_scored

if TYPE_CHECKING:
    from trl import GRPOConfig, SFTConfig


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
    for k, stage in enumerate(stages):  # all of them before the first begins
        check_config(stage, model=k == 0)
        trainer_arguments(stage)
    for stage in stages:
        folder = sft.train(stage) if stage.kind == "sft" else train(stage)
        free_models()
    return folder


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
    rewards = feeding.listen(reward_functions(config, dataset, seen))

    # These take seconds, which a configuration that is refused should not.
    from trl import GRPOTrainer

    from star_tvr.training.callbacks import add_callbacks
    from star_tvr.training.full_disk import explain_full_disk
    from star_tvr.training.sharding import gather_output_layer

    validation = Validation.of(config, processor)
    trainer = validating(GRPOTrainer, validation)(
        model=model,
        args=args,
        train_dataset=rows,
        eval_dataset=validation and validation.questions,
        reward_funcs=rewards,
        processing_class=processor,
        peft_config=adapters_to_train(config, model),
    )
    if args.use_vllm:
        read_as_scored(trainer, config.processor)
    gather_output_layer(trainer)
    add_callbacks(trainer, config)
    feeding.follow(trainer)
    with explain_full_disk(trainer):
        trainer.train(resume_from_checkpoint=begun.checkpoint and str(begun.checkpoint))
        trainer.save_model()
        close_run(trainer, config, dataset)
    return config.output_dir


def reward_functions(
    config: TrainConfig, dataset: Dataset, seen: Size | None = None
) -> list[RewardFunction]:
    """Form and answer, which add up to the reward of `training.rewards.score`, and the extras.

    Those of the ground truth come before the user's own. Each is logged apart. `seen` is the size
    to which the model's processor scales images.
    """
    reward = config.reward.resolve()
    return [
        format_reward(reward),
        with_answer_statistics(accuracy_reward(reward)),
        *extra_rewards(config.reward.extra, row_reader(config, dataset, seen).facts),
        *custom_rewards(config.reward.extra),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of launchers; returns the exit status."""
    return run_from_command_line(run, "training.grpo", arguments)


if __name__ == "__main__":
    sys.exit(main())

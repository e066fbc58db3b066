"""Does a training configuration fit this GPU, and how long is a step? Nothing is downloaded.

    tvr render data/star --config star --num-samples 32 && tvr split data/star
    python -m examples.gpu_check examples/train/qwen2.5-vl-7b-1gpu.yaml
    python -m examples.gpu_check CONFIG --kind sft --steps 5 --set per_device_train_batch_size=4

trains as the configuration says, with its own groups, accumulation, adapters or all weights, but
with random weights, and with answers as long as `max_completion_length` allows. Where the model's
files are not here, its shapes are those of Qwen2.5-VL-3B or -7B, and texts are cut into tokens by
the tiny model's tokenizer. It prints one line of JSON: measured peak memory beside that of
`tvr train … --check`, the seconds of a step, of answering and of the rest, and the share of a step
that goes into this project's own code (rows, prompts, rewards). A configuration with
`use_cpu: true` runs anywhere, without a measured peak.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from star_tvr.scenes.errors import ConfigError, TvrError
from star_tvr.schemas.dataset import Dataset
from star_tvr.training import grpo
from star_tvr.training.checks import check_config
from star_tvr.training.config import TrainConfig, cuda_available, load_stages
from star_tvr.training.models import (
    adapters_to_train,
    load_processor,
    quiet_libraries,
    vision_parameters,
)
from star_tvr.training.run_plan import plan_run
from star_tvr.training.skeletons import find_model
from star_tvr.training.tiny_models import build_tiny
from star_tvr.training.training_rows import training_rows
from star_tvr.training.trl_arguments import trainer_arguments

MARKS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
"""Tokens that a model's configuration knows by number, and the tiny tokenizer by name."""


def build(config: TrainConfig, known: Any) -> Any:
    """A model of this configuration with random weights, where it is to be trained."""
    import torch
    from transformers import AutoModelForImageTextToText

    wanted = config.trainer.get("model_init_kwargs") or {}
    frozen = config.lora is not None
    default = "bfloat16" if config.trainer["bf16"] and frozen else "float32"
    dtype = getattr(torch, str(wanted.get("dtype", default)))
    with torch.device("cpu" if config.trainer["use_cpu"] else "cuda"):
        model = AutoModelForImageTextToText.from_config(
            known, dtype=dtype, attn_implementation=wanted.get("attn_implementation", "sdpa")
        )
    if config.vision_tower == "frozen" and not frozen:
        for weight in vision_parameters(model):
            weight.requires_grad_(False)
    return model


class Clock:
    """Adds up the time that calls take, waiting for the GPU before and after each."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed, under the same name."""

        def timed(*arguments: Any, **named: Any) -> Any:
            begun = now()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds += now() - begun

        timed.__name__ = getattr(call, "__name__", "timed")
        return timed


def now() -> float:
    """Seconds, once the GPU has done all it was told to."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def stage_of(options: argparse.Namespace, scratch: str) -> TrainConfig:
    """The stage of the configuration that is measured, in a scratch folder and for a few steps.

    Raises:
        ConfigError: it wants a GPU and there is none, or what cannot be done with random weights.
    """
    stages = load_stages(options.kind, options.config, options.set)
    found = next((stage for stage in stages if stage.kind == options.kind), None)
    if found is None:
        raise ConfigError(f"{options.config}: has no stage of {options.kind}")
    if not found.trainer["use_cpu"] and not cuda_available():
        raise ConfigError(
            f"{found.source}: PyTorch sees no GPU here, so there is nothing to measure; "
            f"tvr train {options.kind} {options.config} --check estimates without one"
        )
    if found.quantization is not None:
        raise ConfigError(f"{found.source}: quantization: random weights are not quantized here")
    trainer = found.trainer | {
        "max_steps": options.steps + 1,
        "save_strategy": "no",
        "report_to": "none",
    }
    if found.kind == "grpo":
        longest = {"min_new_tokens": trainer["max_completion_length"]}
        trainer |= {
            "generation_kwargs": (trainer.get("generation_kwargs") or {}) | longest,
            "mask_truncated_completions": False,
            "log_completions": False,
        }
    changes = {"trainer": trainer, "output_dir": Path(scratch, "run"), "adapter": None}
    return found.model_copy(update=changes)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train for some steps and say what they took.

    Raises:
        TvrError: there is no GPU, the data set cannot be read, or the batch makes no sense.
    """
    import torch
    from transformers import TrainerCallback
    from trl import GRPOTrainer, SFTTrainer

    quiet_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        config = stage_of(options, scratch)
        cpu = config.trainer["use_cpu"]
        dataset = check_config(config, model=False)
        estimate = plan_run(config)
        args = trainer_arguments(config)
        known, processor, known_from = find_model(config, dataset.world)
        if processor is None:
            folder = build_tiny("tiny", Path(scratch, "base"), dataset.world)
            processor = load_processor(str(folder), config.processor)
            for mark, name in MARKS.items():
                setattr(known, mark, processor.tokenizer.convert_tokens_to_ids(name))
        model = build(config, known)
        generate, own, whole = Clock(), Clock(), Clock()
        table = timed_rows(config, dataset, args, own)

        class Steps(TrainerCallback):
            begun = 0.0

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step > 1:
                    whole.seconds += now() - self.begun
                else:  # the first step warms up
                    generate.seconds = own.seconds = 0.0
                self.begun = now()

        common = {
            "model": model,
            "args": args,
            "train_dataset": table,
            "processing_class": processor,
            "peft_config": adapters_to_train(config, model),
            "callbacks": [Steps()],
        }
        if config.kind == "sft":
            trainer: Any = SFTTrainer(**common)
        else:
            rewards = [own.timed(f) for f in grpo.reward_functions(config, dataset)]
            trainer = GRPOTrainer(reward_funcs=rewards, **common)
            trainer.model.generate = generate.timed(trainer.model.generate)
        trainer.train()
    memory, steps = estimate.memory, options.steps
    return {
        "config": config.source,
        "model": f"random weights, {known_from}",
        "parameters": memory.parameters,
        "trained": memory.trained,
        "device": "cpu" if cpu else torch.cuda.get_device_name(),
        "questions_a_step": estimate.steps.questions,
        "completions_a_step": estimate.steps.completions,
        "peak_gib": None if cpu else torch.cuda.max_memory_allocated() / 2**30,
        "estimated_gib": memory.peak / 2**30,
        "seconds_a_step": whole.seconds / steps,
        "seconds_answering": generate.seconds / steps,
        "seconds_learning_and_rest": (whole.seconds - generate.seconds) / steps,
        "own_share": own.seconds / whole.seconds,
        "torch": torch.__version__,
    }


def timed_rows(config: TrainConfig, dataset: Dataset, args: Any, clock: Clock) -> Any:
    """The rows of a run, with the time that making them takes."""
    table: Any = training_rows(config, dataset, args)
    transform = table.format["format_kwargs"]["transform"]
    return table.with_transform(clock.timed(transform))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="examples.gpu_check", description="Memory and time of steps on this machine."
    )
    parser.add_argument("config", help="a training configuration (YAML)")
    parser.add_argument("--kind", choices=["grpo", "sft"], default="grpo", help="which stage")
    parser.add_argument("--steps", type=int, default=3, help="measured, after one to warm up")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    try:
        print(json.dumps(measure(parser.parse_args(arguments))))
    except TvrError as problem:
        print(f"examples.gpu_check: {problem}", file=sys.stderr)
        return problem.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())

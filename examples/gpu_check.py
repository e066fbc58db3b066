"""Does GRPO fit this GPU, and how long is a step? Real shapes, random weights, nothing downloaded.

    tvr render data/check --config star --num-samples 32 && tvr split data/check
    python -m examples.gpu_check data/check --model 7b
    python -m examples.gpu_check data/check --model 3b --attention flash_attention_2

builds a Qwen2.5-VL of the real shape with random weights in bfloat16, puts LoRA adapters on its
language model and trains it with TRL, with 8 answers of exactly 512 tokens to every question. It
prints one line of JSON: peak memory, the seconds of a step, of answering and of the rest, and the
share of a step that goes into this project's own code (rows, prompts, rewards). With
`--model tiny --tokens 16` it runs anywhere.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from star_tvr.scenes.errors import TvrError
from star_tvr.schemas.dataset import Dataset
from star_tvr.training import grpo
from star_tvr.training.checks import check_config
from star_tvr.training.config import cuda_available, resolve
from star_tvr.training.models import load_model, load_processor, lora_config, quiet_libraries
from star_tvr.training.tiny_models import build_tiny
from star_tvr.training.training_rows import training_rows
from star_tvr.training.trl_arguments import trainer_arguments

SHAPES: dict[str, dict[str, Any]] = {
    # From the published config.json of Qwen/Qwen2.5-VL-3B-Instruct and -7B-Instruct.
    "3b": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
}
"""Of the language model. Both have the same vision tower."""


def build(name: str, folder: Path, attention: str, cpu: bool) -> Any:
    """A Qwen2.5-VL of a real shape with random weights, whose embeddings fit any tokenizer."""
    import torch
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    config = AutoConfig.from_pretrained(folder)
    if name == "tiny":
        return load_model(str(folder), {"attn_implementation": attention})
    text = config.text_config
    for key, value in SHAPES[name].items():
        setattr(text, key, value)
    head = text.hidden_size // text.num_attention_heads
    text.layer_types = ["full_attention"] * text.num_hidden_layers
    text.rope_parameters = {
        "rope_type": "default",
        "rope_theta": 1000000.0,
        "mrope_section": [head // 8, head * 3 // 16, head * 3 // 16],
    }
    text.max_position_embeddings = 128000
    config.tie_word_embeddings = SHAPES[name]["tie_word_embeddings"]
    vision = config.vision_config
    vision.depth, vision.hidden_size, vision.num_heads = 32, 1280, 16
    vision.intermediate_size, vision.out_hidden_size = 3420, text.hidden_size
    vision.fullatt_block_indexes = [7, 15, 23, 31]
    config._attn_implementation = attention
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cpu" if cpu else "cuda"):
            return Qwen2_5_VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)


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


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train for some steps and say what they took.

    Raises:
        TvrError: the data set cannot be read, or the batch makes no sense.
    """
    import torch
    from transformers import TrainerCallback
    from trl import GRPOTrainer

    quiet_libraries()
    cpu = not cuda_available()
    with tempfile.TemporaryDirectory() as scratch:
        document = {
            "model": "tiny",
            "dataset": options.dataset,
            "split": options.split,
            "output_dir": f"{scratch}/run",
            "lora": {"r": 32},
            "use_cpu": cpu,
            "report_to": "none",
            "max_steps": options.steps + 1,
            "save_strategy": "no",
            "per_device_train_batch_size": options.batch,
            "gradient_accumulation_steps": options.accumulation,
            "num_generations": options.generations,
            "max_completion_length": options.tokens,
            "generation_kwargs": {"min_new_tokens": options.tokens},
            "gradient_checkpointing": options.checkpointing,
            "mask_truncated_completions": False,
            "log_completions": False,
        }
        config = resolve("grpo", document, "gpu_check")
        dataset = check_config(config)
        args = trainer_arguments(config)
        folder = build_tiny("tiny", Path(scratch, "base"), dataset.world)
        model = build(options.model, folder, options.attention, cpu)
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

        assert config.lora is not None
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=[own.timed(f) for f in grpo.reward_functions(config, dataset)],
            args=args,
            train_dataset=table,
            processing_class=load_processor(str(folder)),
            peft_config=lora_config(model, config.lora),
            callbacks=[Steps()],
        )
        trainer.model.generate = generate.timed(trainer.model.generate)
        trainer.train()
        lengths = [x["completions/mean_length"] for x in trainer.state.log_history[:-1]]
    steps = options.steps
    return {
        "model": options.model,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": "cpu" if cpu else torch.cuda.get_device_name(),
        "attention": options.attention,
        "checkpointing": options.checkpointing,
        "questions_a_step": options.batch * options.accumulation // options.generations,
        "generations": options.generations,
        "tokens": sum(lengths) / len(lengths),
        "peak_gib": None if cpu else torch.cuda.max_memory_allocated() / 2**30,
        "seconds_a_step": whole.seconds / steps,
        "seconds_answering": generate.seconds / steps,
        "seconds_learning_and_rest": (whole.seconds - generate.seconds) / steps,
        "own_share": own.seconds / whole.seconds,
        "torch": torch.__version__,
    }


def timed_rows(config: Any, dataset: Dataset, args: Any, clock: Clock) -> Any:
    """The rows of a run, with the time that making them takes."""
    table = training_rows(config, dataset, args)
    transform = table.format["format_kwargs"]["transform"]
    return table.with_transform(clock.timed(transform))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="examples.gpu_check", description="Memory and time of GRPO steps on this machine."
    )
    parser.add_argument("dataset", help="a rendered data set; two of its pictures are a question")
    parser.add_argument("--split", default="cross-view/train")
    parser.add_argument("--model", choices=[*SHAPES, "tiny"], default="7b")
    parser.add_argument("--steps", type=int, default=3, help="measured, after one to warm up")
    parser.add_argument("--batch", type=int, default=8, help="answers learned from at once")
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512, help="of every answer")
    parser.add_argument("--attention", default="sdpa", help="sdpa, eager, flash_attention_2")
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    try:
        print(json.dumps(measure(parser.parse_args(arguments))))
    except TvrError as problem:
        print(f"examples.gpu_check: {problem}", file=sys.stderr)
        return problem.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())

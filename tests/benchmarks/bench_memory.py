"""Estimated memory beside measured: what PyTorch's allocator gave out while tiny models learned.

    python tests/benchmarks/bench_memory.py

The measured figure is the largest sum of all blocks alive at once in a training with TRL, by
PyTorch's profiler, which sees every allocation of the CPU's allocator: also those within an
operation. `tvr train … --check` prints the estimated one.

In such small models TRL's tile of logits, 32,768 wide, is most of it. So every case is also run
with tiles of 64, which leave what the layers keep.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from transformers import TrainerCallback

from star_tvr.training import callbacks, grpo, memory, sft
from star_tvr.training.config import load_train_config
from star_tvr.training.memory import Memory
from star_tvr.training.run_plan import plan_run
from tests.training.conftest import write_document
from tests.training.discs import make_dataset

COMMON: dict[str, Any] = {"max_steps": 2, "logging_steps": 1, "save_strategy": "no"}
SFT = {**COMMON, "per_device_train_batch_size": 24}
GRPO = {
    **COMMON,
    "per_device_train_batch_size": 24,
    "num_generations": 8,
    "max_completion_length": 24,
    "mask_truncated_completions": False,
    "lora": {"r": 8},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sft, all weights": ("sft", SFT),
    "sft, all weights, checkpointing": ("sft", {**SFT, "gradient_checkpointing": True}),
    "sft, all weights, bfloat16": ("sft", {**SFT, "bf16": True}),
    "sft, adapters": ("sft", {**SFT, "lora": {"r": 8}}),
    "sft, adapters, vision, too": ("sft", {**SFT, "lora": {"r": 8}, "vision_tower": "trained"}),
    "grpo, adapters": ("grpo", GRPO),
    "grpo, adapters, checkpointing": ("grpo", {**GRPO, "gradient_checkpointing": True}),
    "grpo, all weights, two passes": (
        "grpo",
        {**GRPO, "lora": None, "gradient_accumulation_steps": 2},
    ),
}
"""What is compared: which training, and its configuration."""


@contextmanager
def tiles(width: int) -> Iterator[None]:
    """TRL's fused output layer at work in tiles so wide, and the estimate, too."""
    theirs, ours = trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE, memory.VOCABULARY_TILE
    trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE = memory.VOCABULARY_TILE = width
    try:
        yield
    finally:
        trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE, memory.VOCABULARY_TILE = theirs, ours


def measure(kind: str, path: Path) -> tuple[int, dict[str, int]]:
    """Train, and say how many bytes were alive at most, and what gradients and moments took."""
    held: dict[str, int] = {}

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            learned = [p for p in given["model"].parameters() if p.grad is not None]
            held["gradients"] = sum(p.grad.numel() * p.grad.itemsize for p in learned)
            held["weights"] = sum(p.numel() * p.itemsize for p in given["model"].parameters())

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            moments = given["optimizer"].state.values()
            held["optimizer"] = sum(
                t.numel() * t.itemsize for one in moments for t in one.values() if t.ndim
            )

    add = callbacks.add_callbacks
    callbacks.add_callbacks = lambda trainer, *rest: (
        add(trainer, *rest),
        trainer.add_callback(Look()),
    )
    activities = [torch.profiler.ProfilerActivity.CPU]
    try:
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            (sft if kind == "sft" else grpo).run(path)
    finally:
        callbacks.add_callbacks = add
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most, held


def estimate(kind: str, path: Path) -> Memory:
    """What `--check` says of it."""
    return plan_run(load_train_config("sft" if kind == "sft" else "grpo", path)).memory


def main() -> int:
    """Print a line a case."""
    names = sys.argv[1:] or list(CASES)
    with tempfile.TemporaryDirectory() as scratch:
        dataset = make_dataset(Path(scratch, "discs"))
        print(f"{'':60}{'measured':>10}{'estimated':>11}{'ratio':>7}")
        for family, name, width in product(("tiny", "tiny-idefics3"), names, (32768, 64)):
            kind, values = CASES[name]
            where = f"{scratch}/{family}-{name}-{width}"
            document = {"model": family, "output_dir": where, **values}
            path = write_document(Path(scratch, "config.yaml"), dataset, document)
            with tiles(width):
                guess = estimate(kind, path)
                most, _ = measure(kind, path)
            line = f"{most / 2**20:10.1f}{guess.peak / 2**20:11.1f}{guess.peak / most:7.2f}"
            print(f"{f'{family}: {name}, tiles of {width}':60}{line}  MiB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

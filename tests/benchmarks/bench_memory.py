"""Estimated memory beside measured: what PyTorch's allocator gave out while tiny models learned.

    python tests/benchmarks/bench_memory.py
    python tests/benchmarks/bench_memory.py --table data/star

The measured figure is the largest sum of all blocks alive at once in a training with TRL, by
PyTorch's profiler, which sees every allocation of the CPU's allocator: also those within an
operation. `tvr train … --check` prints the estimated one.

In such small models TRL's tile of logits, 32,768 wide, is most of it. So every case is also run
with tiles of 64, which leave what the layers keep. The second command prints the table of
docs/training-notes.md: what the configurations of examples/train/ need, on questions of that data
set.
"""

import gc
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
from star_tvr.training.config import TrainConfig, load_train_config
from star_tvr.training.memory import Memory
from star_tvr.training.run_plan import plan_run, plan_runs
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


def measure(kind: str, path: Path) -> tuple[int, dict[str, int], tuple[int, int]]:
    """Train, and say how many bytes were alive at most.

    Also what weights, gradients and moments took, and how many tokens the longest sequence had, and
    how many of them were a completion.
    """
    held: dict[str, int] = {}
    lengths = [(0, 0)]

    def look(module: Any, args: Any, given: dict[str, Any]) -> None:
        if given.get("fused_lm_head"):
            wanted = given["labels"] != -100
            first = int(wanted.int().argmax(1).min())
            lengths.append((wanted.shape[1], wanted.shape[1] - first))

    class Look(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            given["model"].register_forward_pre_hook(look, with_kwargs=True)

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

    def with_look(trainer: Any, config: TrainConfig) -> None:
        add(trainer, config)
        trainer.add_callback(Look())

    callbacks.add_callbacks = with_look
    gc.collect()  # or what an earlier training left would be given back meanwhile, and taken off
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
    return most, held, max(lengths)


def foreign(memory: Memory, kind: str) -> int:
    """Bytes that are not of PyTorch's allocator on a CPU.

    Weights are mapped from their file. Pictures are numpy's, until TRL's GRPO puts the answers in
    another order, which copies them.
    """
    return memory.weights + (memory.pictures if kind == "sft" else 0)


TABLE = {
    "qwen2.5-vl-3b-1gpu": None,
    "qwen2.5-vl-7b-qlora": None,
    "qwen2.5-vl-7b-1gpu": None,
    "qwen2.5-vl-7b-8gpu-lora": "accelerate-ddp",
    "qwen2.5-vl-7b-7gpu-vllm": "accelerate-ddp",
    "qwen2.5-vl-7b-8gpu": "accelerate-zero3",
}
"""Configurations of examples/train/, and how they are launched."""


def print_table(dataset: str) -> None:
    """What the shipped configurations need, as Markdown; nothing of it is measured."""
    heads = "weights | gradients, optimizer | learning | answering | most"
    print(f"| configuration | processes | {heads} |")
    print("|---|---|---|---|---|---|---|")
    for name, launcher in TABLE.items():
        path = Path("examples/train", f"{name}.yaml")
        file = None if launcher is None else Path("examples/train", f"{launcher}.yaml")
        gpus = 7 if "7gpu" in name else None
        for plan in plan_runs("grpo", path, [f"dataset={dataset}"], gpus, file):
            found = plan.memory
            learned = found.gradients + found.optimizer
            sizes = (found.weights, learned, found.learning, found.generating, found.peak)
            cells = " | ".join(f"{size / 2**30:.1f}" if size else "" for size in sizes)
            print(f"| `{name}`, {plan.kind} | {plan.processes} | {cells} |", flush=True)


def main() -> int:
    """Print a line a case."""
    if sys.argv[1:2] == ["--table"]:
        print_table(sys.argv[2])
        return 0
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
                most, _, lengths = measure(kind, path)
                config = load_train_config("sft" if kind == "sft" else "grpo", path)
                found = plan_run(config, lengths=lengths).memory
            guess = found.peak - foreign(found, kind)
            line = f"{most / 2**20:10.1f}{guess / 2**20:11.1f}{guess / most:7.2f}"
            print(f"{f'{family}: {name}, tiles of {width}':60}{line}  MiB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

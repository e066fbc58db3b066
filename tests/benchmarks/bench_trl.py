"""A plain script with TRL's GRPOTrainer beside `tvr train grpo`: the same losses, the same time?

python -m tests.benchmarks.bench_trl [--steps N]

Both train the same adapters on the same model from the same seed: one as TRL's example for
vision-language models does (a folder's name, rows of `datasets.load_dataset`, reward functions, a
peft configuration), from the parquet export of a data set; the other as a configuration says, from
the data set itself. Each runs in a process of its own; what TRL logs of each step is printed side
by side. At most 8 steps, which are one epoch: at the beginning of another one PyTorch's DataLoader
draws a number from the generator that answers are drawn from, and TRL alone leaves out the rows
that fill no batch; `tvr train` plans all epochs as one.
"""

import argparse
import json
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Pair
from star_tvr.training import grpo, sft
from star_tvr.training.exports.export_dataset import export_dataset
from star_tvr.training.rewards import accuracy_reward, format_reward
from tests.training.discs import make_dataset

KEYS = ("loss", "grad_norm", "reward", "entropy", "completions/mean_length", "num_tokens")
"""What must be equal, of all that TRL logs."""

TRAINER = {
    "learning_rate": 0.01,
    "per_device_train_batch_size": 6,
    "gradient_accumulation_steps": 2,  # three questions a step
    "num_generations": 4,
    "max_completion_length": 24,
    "mask_truncated_completions": False,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "seed": 3,
    "use_cpu": True,
}
"""Fields of GRPOConfig, for both."""


def plain(
    model: Path, dataset: Dataset, split: str, folder: Path, steps: int
) -> list[dict[str, Any]]:
    """Train with TRL alone, from an export that is written to `folder`; what it logged."""
    from datasets import load_dataset
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer

    export = folder / "export"
    for _ in export_dataset(dataset, export, "parquet", [split]):
        pass
    files = str(export / "data" / f"{split}-*.parquet")
    rows = load_dataset("parquet", data_files=files, split="train", cache_dir=str(folder / "cache"))

    def conversation(row: dict[str, Any]) -> dict[str, Any]:
        images = [row[f"{state}_image"].convert("RGB") for state in ("initial", "final")]
        messages = [{**m, "content": parts(m["content"])} for m in row["prompt"]]
        return {"images": images, "messages": messages}

    rows = rows.map(conversation).select_columns(["messages", "images", "truth"])
    rows = rows.rename_column("messages", "prompt")
    trainer = GRPOTrainer(
        model=str(model),
        args=GRPOConfig(
            output_dir=str(folder / "plain"),
            max_steps=steps,
            bf16=False,
            shuffle_dataset=False,
            remove_unused_columns=False,
            disable_tqdm=True,
            **TRAINER,
        ),
        reward_funcs=[format_reward(), accuracy_reward()],
        train_dataset=rows,
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]
        ),
    )
    trainer.train()
    return [line for line in trainer.state.log_history if "loss" in line]


def parts(text: str) -> list[dict[str, str]]:
    """Text with `<image>` where an image goes, as the parts of a message."""
    pieces = [{"type": "text", "text": piece.strip("\n")} for piece in text.split("<image>")]
    joined = [part for piece in pieces for part in ({"type": "image"}, piece)][1:]
    return [part for part in joined if part.get("text") != ""]


def ours(
    model: Path, dataset: Dataset, split: str, folder: Path, steps: int
) -> list[dict[str, Any]]:
    """Train as a configuration says; what was logged."""
    document = {
        "model": str(model),
        "dataset": str(dataset.root),
        "split": split,
        "output_dir": str(folder / "ours"),
        "rows": {"order": "stored"},
        "lora": {"r": 4, "alpha": 8, "targets": ["q_proj", "v_proj"]},
        "max_steps": steps,
        **TRAINER,
    }
    path = folder / "ours.yaml"
    path.write_text(yaml.safe_dump(document))
    lines = (grpo.run(path) / "log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if "loss" in line]


def warm_model(dataset: Dataset, folder: Path) -> Path:
    """A tiny model that knows the form of an answer, so that rewards differ."""
    document = {
        "model": "tiny-idefics3",  # whose processor opens without torchvision
        "dataset": str(dataset.root),
        "split": "cross-view/train",
        "output_dir": str(folder / "warm"),
        "max_steps": 12,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 6,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "seed": 3,
    }
    path = folder / "warm.yaml"
    path.write_text(yaml.safe_dump(document))
    return sft.run(path)


def main() -> None:
    """Run both and print what they logged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, choices=range(2, 9), default=8)
    options = parser.parse_args()
    table = Table("step", *KEYS, "seconds", title="plain script | tvr train grpo")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset = make_dataset(folder / "data")
        model = warm_model(dataset, folder)
        ends = ("center", "left", "right")
        pairs = [Pair(name, "center", end) for end in ends for name in dataset.ids()]
        dataset.write_split("bench/train", pairs)
        logs = []
        for run in (plain, ours):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                logs.append(pool.apply(run, (model, dataset, "bench/train", folder, options.steps)))
    seconds = [0.0, 0.0]
    for number, lines in enumerate(zip(*logs, strict=True), 1):
        cells = [" | ".join(f"{line[key]:.8g}" for line in lines) for key in KEYS]
        times = [line["step_time"] for line in lines]
        table.add_row(str(number), *cells, " | ".join(f"{t:.2f}" for t in times))
        if number > 1:  # the first step warms up
            seconds = [a + b for a, b in zip(seconds, times, strict=True)]
    Console(width=200).print(table)
    different = [k for k in KEYS for a, b in zip(*logs, strict=True) if a[k] != b[k]]
    mean = [s / (options.steps - 1) for s in seconds]
    print(f"different: {len(different)} of {len(KEYS) * options.steps} figures")
    print(f"seconds a step after the first: {mean[0]:.3f} plain, {mean[1]:.3f} tvr train grpo")


if __name__ == "__main__":
    main()

"""The whole way on a small scale, through the same commands that anybody would type.

Every command goes on where it was interrupted, so the demo does too.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from star_tvr.scenes.errors import TvrError

CONFIGS = Path(__file__).parent
SPLITS = ("test_id", "test_ood")


def commands(out: Path) -> list[list[str]]:
    """What the demo runs, as arguments of `tvr`."""
    dataset, sft, grpo = out / "dataset", out / "sft", out / "grpo"
    size = ["--set", "image.width=160", "--set", "image.height=120"]
    steps = [
        ["render", str(dataset), "--config", "star", "--num-samples", "24", *size],
        ["split", str(dataset)],
        ["validate", str(dataset), "--pixels"],
        ["train", "sft", str(CONFIGS / "demo-sft.yaml"), *_set(dataset=dataset, output_dir=sft)],
        *_evaluations(out, dataset, "before", ["--model", str(sft)]),
        [
            *["train", "grpo", str(CONFIGS / "demo-grpo.yaml")],
            *_set(model=sft, dataset=dataset, output_dir=grpo),
        ],
        *_evaluations(out, dataset, "after", ["--model", str(sft), "--adapter", str(grpo)]),
        ["report", str(out)],
    ]
    return steps


def run(out: Path) -> None:
    """Run the demo into a folder.

    Raises:
        DemoError: a command failed; it has said why.
    """
    # For matrices as small as the tiny model's, threads only wait for each other.
    one_thread = {"OMP_NUM_THREADS": "1", **os.environ}
    start = time.monotonic()
    times: list[tuple[str, float]] = []
    for arguments in commands(out):
        print(f"\n$ tvr {' '.join(arguments)}", flush=True)
        begun = time.monotonic()
        status = subprocess.run(
            [sys.executable, "-m", "star_tvr.tvr", *arguments], env=one_thread
        ).returncode
        if status:
            raise DemoError(f"the demo stopped at: tvr {' '.join(arguments)}")
        times.append((_stage(arguments), time.monotonic() - begun))
    print("\nstage                          seconds")
    for name, seconds in times:
        print(f"{name[:30]:30} {seconds:7.1f}")
    print(f"{'all':30} {time.monotonic() - start:7.1f}")
    print(
        "\nThe tiny model was made on the spot from random weights and saw a few samples: this\n"
        "shows that the machinery works, and is no result.\n"
        f"\nDone: pictures, predictions and curves are in {out / 'report.html'}"
    )


def _stage(arguments: list[str]) -> str:
    """A short name: the command and what is particular about it."""
    if arguments[0] == "evaluate":
        return f"evaluate {Path(arguments[arguments.index('--out') + 1]).name}"
    return " ".join(arguments[: 2 if arguments[0] == "train" else 1])


class DemoError(TvrError):
    """A command of the demo failed."""


def _evaluations(out: Path, dataset: Path, name: str, model: list[str]) -> list[list[str]]:
    return [
        [
            *["evaluate", str(dataset), "--split", f"cross-view/{split}", *model],
            *["--out", str(out / "evaluations" / f"{name}-{split}"), "--max-new-tokens", "64"],
        ]
        for split in SPLITS
    ]


def _set(**values: object) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]

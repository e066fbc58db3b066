"""Kills trainer, renderer and Blender at random moments, and compares with an undisturbed run.

python -m tests.benchmarks.fresh_kills [--kills N] [--seed S] [--stage sft|grpo]

Both stages are trained on fresh data, small, on the CPU. After every kill the same command is given
again. At the end the weights of SFT must be the same bytes as without a kill, and both stages must
have asked the same questions in the same order. Needs Linux.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

DATA = ["image.width=32", "image.height=24", "render.samples=1", "render.denoise=false"]

COMMON: dict[str, Any] = {
    "model": "tiny",
    "prompt": {"style": "compact", "location": "cell"},
    "use_cpu": True,
    "report_to": "none",
    "seed": 3,
    "logging_steps": 1,
    "save_steps": 2,
    "save_total_limit": 2,
}

STAGES: dict[str, dict[str, Any]] = {
    "sft": {
        "max_steps": 16,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "fresh": {"config": "basic", "set": DATA, "seed": 7, "workers": 2, "ahead": 10},
    },
    "grpo": {
        "max_steps": 12,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 12,
        "learning_rate": 1e-3,
        "fresh": {"config": "basic", "set": DATA, "seed": 8, "workers": 2, "ahead": 5},
    },
}

VICTIMS = ("trainer", "renderer", "worker", "all")

TRIES = 60
"""Starts after which a run that does not end is a failure."""


def write_config(folder: Path, stage: str) -> Path:
    """The configuration of a stage, whose run is in `folder`/STAGE."""
    path = folder / f"{stage}.yaml"
    document = {**COMMON, **STAGES[stage], "output_dir": str(folder / stage)}
    path.write_text(yaml.safe_dump(document))
    return path


def start(stage: str, config: Path) -> subprocess.Popen[str]:
    """The command that is given again and again."""
    return subprocess.Popen(
        [sys.executable, "-m", f"star_tvr.training.{stage}", str(config)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def children(parent: int, word: bytes) -> list[int]:
    """The processes that a process has begun whose command has a word in it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if above == parent and word in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended
    return found


def victims(trainer: int, which: str, rng: random.Random) -> list[int]:
    """The processes to kill."""
    renderers = children(trainer, b"star_tvr.tvr")
    workers = [w for r in renderers for w in children(r, b"star_tvr.generator.worker")]
    if which == "worker":
        return [rng.choice(workers)] if workers else []
    found = {"trainer": [trainer], "renderer": renderers, "all": [trainer, *renderers, *workers]}
    return found[which]


def weights(run: Path) -> str:
    """A hash of the trained weights."""
    digest = hashlib.sha256()
    for path in sorted(run.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def questions(run: Path) -> list[list[str]]:
    """What GRPO asked in every step."""
    import pyarrow.parquet

    steps: dict[int, list[str]] = {}
    for path in sorted((run / "completions").glob("*.parquet")):
        for row in pyarrow.parquet.read_table(path).to_pylist():
            names = [f"{row['sample']} {row['initial']} {row['final']}"]
            steps.setdefault(row["step"], []).extend(names)
    return [steps[k] for k in sorted(steps)]


def losses(run: Path) -> list[float]:
    """The loss of every step."""
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def outcome(run: Path, stage: str) -> dict[str, Any]:
    """What must be the same."""
    same = {"losses": losses(run)} | ({"questions": questions(run)} if stage == "grpo" else {})
    return same | {"weights": weights(run)}


def undisturbed(folder: Path, stage: str) -> tuple[dict[str, Any], float]:
    """A run without a kill: what came of it, and seconds that it took."""
    folder.mkdir()
    begun = time.monotonic()
    process = start(stage, write_config(folder, stage))
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{stage}: the undisturbed run failed: {said[-2000:]}")
    return outcome(folder / stage, stage), time.monotonic() - begun


def disturbed(
    folder: Path, stage: str, kills: int, seconds: float, rng: random.Random
) -> tuple[dict[str, Any], Counter[str], Counter[str]]:
    """A run with kills at random moments; how often what was killed, and what was said of it."""
    folder.mkdir()
    config = write_config(folder, stage)
    done: Counter[str] = Counter()
    said: Counter[str] = Counter()
    for _ in range(TRIES):
        process = start(stage, config)
        while done.total() < kills and process.poll() is None:
            which = rng.choice(VICTIMS)
            try:
                process.wait(rng.uniform(0.2, 0.9) * seconds)
            except subprocess.TimeoutExpired:
                found = victims(process.pid, which, rng)
                for pid in found:
                    os.kill(pid, signal.SIGKILL)
                done[which] += bool(found)
        _, words = process.communicate()
        if process.returncode == 0 and done.total() >= kills:
            return outcome(folder / stage, stage), done, said
        if process.returncode == 0:  # it was done before all the kills: once more, from nothing
            shutil.rmtree(folder / stage)
        elif process.returncode > 0:
            said[words.strip().splitlines()[-1].partition(": ")[2]] += 1
    raise SystemExit(f"{stage}: not done after {TRIES} starts: {said}")


def main() -> None:
    """Print a table of the kills, and fail if anything differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", choices=[*STAGES], action="append")
    given = parser.parse_args()
    table = Table(
        "stage", *VICTIMS, "starts that ended with a message", "losses", "asked", "weights"
    )
    failed = False
    said_of: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for stage in given.stage or STAGES:
            rng = random.Random(f"{given.seed} {stage}")
            wanted, seconds = undisturbed(Path(folder) / f"{stage}-undisturbed", stage)
            place = Path(folder) / f"{stage}-killed"
            found, done, said_of[stage] = disturbed(place, stage, given.kills, seconds, rng)
            same = {key: found[key] == wanted[key] for key in wanted}
            failed |= not all(same.values())
            words = ["same" if same.get(k, True) else "DIFFER" for k in ("losses", "weights")]
            asked = {None: "by the weights", True: "same", False: "DIFFER"}[same.get("questions")]
            counts = [str(done[v]) for v in VICTIMS]
            ends = str(said_of[stage].total())
            table.add_row(stage, *counts, ends, words[0], asked, words[1])
    console = Console(width=120)
    console.print(table)
    for stage, sentences in said_of.items():
        for sentence, times in sentences.items():
            console.print(f"{stage}: {times} times: {sentence}", highlight=False)
    sys.exit(failed)


if __name__ == "__main__":
    main()

"""`make integrations`: every door of training/integrations/ tried with its own library.

Each library has an environment of its own in .venv-tests/, made once. One that cannot be installed
is named, with the reason, and no failure; one that answers otherwise than it should is.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from star_tvr.training.exports.export_dataset import export_dataset
from tests.environments import CLEAN, ROOT, build, environment
from tests.training.discs import make_dataset

HERE = Path(__file__).parent
DOCUMENT = ROOT / "docs" / "environments.md"
VERIFIERS = ROOT / "examples" / "environments" / "verifiers"


class Door(NamedTuple):
    """A library to try.

    Attributes:
        name: the check is check_<name>.py.
        packages: to install; none where this environment has it already.
        export: the format of the data that the check also wants.
    """

    name: str
    packages: tuple[str, ...] = ()
    export: str | None = None


DOORS = (
    Door("trl"),
    Door("reasoning_gym", ("reasoning-gym==0.1.25",)),
    Door("openenv", ("openenv==0.10.0",)),
    Door("verifiers", ("verifiers==0.4.0", str(VERIFIERS))),
    Door("verl", ("verl==0.9.1", "torch==2.13.0"), "verl"),
    Door("ms_swift", ("ms-swift==4.6.0", "torch==2.13.0"), "sharegpt"),
)


def check(door: Door, wheel: Path, folder: Path) -> dict[str, Any]:
    """Run the check of a door in a new folder, and return what it says."""
    python = (
        environment(wheel, packages=door.packages) / "python" if door.packages else sys.executable
    )
    arguments = [folder / "data"]
    if door.export:
        arguments.append(folder / door.export)
    work = folder / f"work-{door.name}"
    work.mkdir()
    done = subprocess.run(
        [str(python), str(HERE / f"check_{door.name}.py"), *map(str, arguments)],
        cwd=work,
        env={**CLEAN, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{door.name}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def span(numbers: Sequence[float]) -> str:
    """Scores as they stand in the table."""
    low, high = min(numbers), max(numbers)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def line(door: Door, found: dict[str, Any]) -> str:
    """A row of the table."""
    cells = (
        *(door.name.replace("_", "-"), found["version"], found["python"], found["ran"]),
        *(span(found["oracle"]), span(found["silence"]), f"{found['ms']:g}"),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Try the doors that are named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("doors", nargs="*", help="by default all")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no other one after that")
    parser.add_argument("--write", action="store_true", help="put the table into the document")
    options = parser.parse_args()
    chosen = [d for d in DOORS if not options.doors or d.name in options.doors]
    start = time.monotonic()
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (wheel,) = build(folder / "built", "--wheel").glob("*.whl")
        dataset = make_dataset(folder / "data")
        for format in {door.export for door in chosen if door.export}:
            for _ in export_dataset(dataset, folder / format, format):
                pass
        for door in chosen:
            if time.monotonic() - start > 60 * options.minutes:
                print(f"{door.name}: skipped: {options.minutes:g} minutes are over", flush=True)
                continue
            try:
                found = check(door, wheel, folder)
            except AssertionError as problem:  # of pip
                reason = " ".join(str(problem).split())[-300:]
                print(f"{door.name}: skipped: cannot be installed: {reason}", flush=True)
                continue
            lines.append(line(door, found))
            print(lines[-1], flush=True)
    if options.write:
        table = "\n".join(lines)
        text = DOCUMENT.read_text(encoding="utf-8")
        text = re.sub(r"(?<=\| --- \|\n)(\|.*\n)+?(?=<!-- end -->)", f"{table}\n", text)
        DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""How fast `tvr --help` is beside a bare typer program: `python tests/benchmarks/bench_startup.py`.

Prints the seconds of both, and the ratio of `tvr`, pair by pair; at most 2 is wanted.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 15
TVR = Path(sys.executable).with_name("tvr")

BARE = f"""#!{sys.executable}
import typer

app = typer.Typer()


@app.command()
def hello(name: str, loud: bool = False) -> None:
    "Say hello."


@app.command()
def bye(name: str) -> None:
    "Say goodbye."


app()
"""


def seconds(*command: str | Path) -> float:
    """How long a command takes, as a whole process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print a line for the help of the program and one for that of a command."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare"
        bare.write_text(BARE)
        os.chmod(bare, 0o755)
        print("                     seconds  bare   ratio (least, median, most)")
        for words, beside in (
            (["--help"], ["--help"]),
            (["render", "--help"], ["hello", "--help"]),
        ):
            pairs = [(seconds(TVR, *words), seconds(bare, *beside)) for _ in range(RUNS + 1)][1:]
            ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratios = sorted(a / b for a, b in pairs)
            print(
                f"tvr {' '.join(words):16} {ours:7.2f} {theirs:5.2f}   "
                f"{ratios[0]:.2f} {statistics.median(ratios):.2f} {ratios[-1]:.2f}"
            )


if __name__ == "__main__":
    main()

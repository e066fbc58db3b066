"""Whether memory and disk stay flat while many samples are rendered and used up.

python -m tests.benchmarks.fresh_flat [--samples N] [--ahead N] [--workers N]

A reader decodes every sample as a training does and gives it up; nothing is learnt. Printed for ten
stretches: samples on the disk, their bytes, memory of the reader, of the renderer and of Blender,
and seconds since the beginning. Needs Linux.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from star_tvr.schemas.stream import Need, Stream
from star_tvr.training.config import FreshConfig, PromptConfig, RowsConfig
from star_tvr.training.fresh_dataset import FreshDataset
from star_tvr.training.fresh_renderer import READER, RendererProcess, renderer_command
from star_tvr.training.rows import RowReader
from tests.benchmarks.fresh_kills import DATA, children

STRETCHES = 10

COLUMNS = ("samples", "on disk", "disk, MB", "reader, MB", "renderer, MB", "Blender, MB", "seconds")


def memory(process: int) -> float:
    """MB that a process holds."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def disk(root: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for place, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):  # it has been deleted meanwhile
                total += Path(place, name).stat().st_size
    return total


def main() -> None:
    """Print the table; fail if memory or disk has grown by more than a tenth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--ahead", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        print(*(f"{name:>13}" for name in COLUMNS))
        rows = []
        for row in run(root, given.samples, given.ahead, given.workers):
            rows.append(row)
            print(*(f"{value:13.1f}" for value in row), flush=True)
    first, last = rows[0], rows[-1]
    grown = [a / b for a, b in zip(last[2:6], first[2:6], strict=True)]
    raise SystemExit(any(share > 1.1 for share in grown))


def run(root: Path, samples: int, ahead: int, workers: int) -> Iterator[tuple[float, ...]]:
    """Use up so many samples; yields what was measured after each tenth of them."""
    fresh = FreshConfig(config="basic", set=tuple(DATA), seed=11, ahead=ahead, workers=workers)
    dataset = FreshDataset.plan(root, fresh, "all", samples)
    reader = RowReader(dataset, PromptConfig(), None, RowsConfig(), 0)
    stream = Stream(root)

    def need(used: int) -> Need:
        return Need(session="flat", keep=False, used=used, end=samples)

    with stream.reading(keep=False):
        stream.say_need(READER, need(0))
        renderer = RendererProcess(dataset, renderer_command(fresh, root))
        try:
            begun = time.monotonic()
            for used, pair in enumerate(dataset.split("fresh/train"), start=1):
                reader.row(pair)
                if used % 8 == 0:
                    stream.say_need(READER, need(used))
                    stream.remove_before(used)
                if used % max(1, samples // STRETCHES) == 0:
                    blender = children(renderer.process.pid, b"star_tvr.generator.worker")
                    sizes = (os.getpid(), renderer.process.pid, max(blender, key=memory))
                    there = stream.count(0, samples)
                    seconds = time.monotonic() - begun
                    yield used, there, disk(root) / 1e6, *map(memory, sizes), seconds
        finally:
            renderer.stop()


if __name__ == "__main__":
    main()

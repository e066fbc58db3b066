"""Figures of the renderer: frames per minute, CPU seconds, the project's own share, memory.

The own share is all the CPU time of a process that Cycles' render call does not take: planning,
arranging the stage, reading passes, labels, PNG files, writing the sample. Only the frames per
minute are by the clock, which other programs on the machine slow down.

python tests/benchmarks/bench_render.py [--samples N] [--trance N] [--small N] [--synced N]
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from star_tvr.generator import blender
from star_tvr.generator.dataset_writer import write_sample
from star_tvr.generator.stage import Stage
from star_tvr.generator.worker import render_sample, resident
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import sample_id


class TimedStage(Stage):
    """A stage that adds up the CPU time of Cycles' render calls."""

    rendering = 0.0

    def render(self) -> Path:
        """As always."""
        start = time.process_time()
        try:
            return super().render()
        finally:
            self.rendering += time.process_time() - start


def measure(overrides: list[str], samples: int, out: Path) -> dict[str, Any]:
    """Make samples as a worker does; frames, how fast, CPU seconds, and our own part of them."""
    config = load_config("star", overrides)
    sampler = Sampler.from_config(config)
    stage = TimedStage(config)
    plan = sampler.plan(samples)
    render_sample(stage, plan, sampler.world, config)  # Blender loads what it needs
    stage.rendering = 0.0
    frames = 0
    wall, cpu = time.perf_counter(), time.process_time()
    for index in range(samples):
        plan = sampler.plan(index)
        write_sample(out, plan.id, render_sample(stage, plan, sampler.world, config))
        frames += len(plan.views)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "frames": frames,
        "per minute": 60 * frames / wall,
        "cpu": cpu / frames,
        "own": 1 - stage.rendering / cpu,
        "own ms": 1000 * (cpu - stage.rendering) / frames,
    }


def syncing(samples: int, out: Path) -> dict[str, float]:
    """Milliseconds by the clock to commit a sample of eight small files, synced and not."""
    files = {f"{k}.png": bytes(60_000) for k in range(7)} | {"sample.json": bytes(30_000)}
    found = {}
    real = os.fsync
    for name, sync in (("synced", real), ("not synced", lambda handle: None)):
        os.fsync = sync
        try:
            start = time.perf_counter()
            for index in range(samples):
                write_sample(out / name, sample_id(index), files)
            found[name] = 1000 * (time.perf_counter() - start) / samples
        finally:
            os.fsync = real
    return found


def growth(frames: int, at: list[int]) -> list[tuple[int, int, float]]:
    """Frames made, MiB held, and CPU milliseconds for a frame of the last stretch."""
    config = load_config(
        "star",
        ["image.width=64", "image.height=48", "render.samples=1", "render.denoise=false"],
    )
    sampler = Sampler.from_config(config)
    stage = Stage(config)
    done, last, start = 0, 0, time.process_time()
    found = []
    for index in range(frames):
        if done >= frames:
            break
        plan = sampler.plan(index)
        render_sample(stage, plan, sampler.world, config)
        before, done = done, done + len(plan.views)
        if any(before < mark <= done for mark in at):
            now = time.process_time()
            found.append((done, resident(), 1000 * (now - start) / (done - last)))
            start, last = now, done
    return found


def main() -> None:
    """Print everything."""
    console = Console(width=110, file=blender.start())
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--samples", type=int, default=3, help="of draft and standard; 4 frames each"
    )
    parser.add_argument("--trance", type=int, default=1, help="of the trance quality; minutes")
    parser.add_argument("--small", type=int, default=1000, help="small frames for the memory")
    parser.add_argument("--synced", type=int, default=100, help="samples written, with and without")
    parser.add_argument("--disk", help="where they are written; by default, temporary files")
    asked = parser.parse_args()
    table = Table(
        *("quality", "frames", "frames/min", "CPU s/frame", "own share", "own CPU ms/frame"),
        title="320 x 240, one process with one thread",
    )
    counts = {"draft": asked.samples, "standard": asked.samples, "trance": asked.trance}
    with tempfile.TemporaryDirectory() as folder:
        for quality, count in counts.items():
            if count:
                found = measure([f"render.quality={quality}"], count, Path(folder) / quality)
                table.add_row(
                    quality,
                    str(found["frames"]),
                    f"{found['per minute']:.1f}",
                    f"{found['cpu']:.2f}",
                    f"{found['own']:.1%}",
                    f"{found['own ms']:.0f}",
                )
    console.print(table)
    if asked.synced:
        with tempfile.TemporaryDirectory(dir=asked.disk) as folder:
            for name, milliseconds in syncing(asked.synced, Path(folder)).items():
                console.print(f"writing a sample of 0.45 MB, {name}: {milliseconds:.1f} ms")
    if not asked.small:
        return
    marks = sorted({min(100, asked.small), asked.small // 2, asked.small})
    table = Table("small frames", "MiB", "CPU ms/frame since", title="memory, 64 x 48, 1 sample")
    for frames, memory, milliseconds in growth(asked.small, marks):
        table.add_row(str(frames), str(memory), f"{milliseconds:.0f}")
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory: {peak:.0f} MiB")


if __name__ == "__main__":
    main()

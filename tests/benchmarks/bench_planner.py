"""Planner figures: plans per second and where the time goes, balance, agreement with Blender.

python tests/benchmarks/bench_planner.py [--frames N]
python tests/benchmarks/bench_planner.py --against CHECKOUT    # of an earlier version, in turns
"""

import argparse
import cProfile
import pstats
import resource
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from star_tvr.generator import blender
from star_tvr.generator.frames import render_frame
from star_tvr.generator.stage import Stage
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.schemas.config import load_config

ROOT = Path(__file__).parents[2]

STAGES = {
    "task (balance.task)": "task",
    "layout (sampler._place, _cameras, _lights)": ("_place", "_cameras", "_lights"),
    "visibility (rules.hidden_changes)": "hidden_changes",
}


def speed(preset: str, count: int = 600) -> tuple[float, dict[str, float]]:
    """Plans per second on one core, and the share of each stage under the profiler."""
    sampler = Sampler.from_config(load_config(preset))
    for index in range(50):  # warm the caches
        sampler.plan(index)
    start = time.process_time()
    for index in range(count):
        sampler.plan(index)
    rate = count / (time.process_time() - start)
    profile = cProfile.Profile()
    profile.enable()
    for index in range(count // 4):
        sampler.plan(index)
    profile.disable()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    spent = {name[2]: value[3] for name, value in stats.items() if "scenes" in name[0]}
    shares = {
        label: sum(spent.get(n, 0.0) for n in ([names] if isinstance(names, str) else names))
        / spent["plan"]
        for label, names in STAGES.items()
    }
    return rate, shares


def balance(preset: str, count: int = 10_000) -> dict[str, float]:
    """Largest relative deviation from uniform of every marginal over `count` tasks."""
    sampler = Sampler.from_config(load_config(preset))
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for index in range(count):
        task = sampler.balance.task(index)
        number = str(len(task.transformations))
        seen["visible objects"][str(task.visible)] += 1
        seen["transformations"][number] += 1
        for t, move in zip(task.transformations, task.moves, strict=True):
            seen["attribute"][t.attribute] += 1
            seen["attribute, given the number"][f"{number} {t.attribute}"] += 1
            seen[f"value of {t.attribute}"][t.value] += 1
            if move != "in":
                seen[f"object, of {task.visible}"][str(t.object)] += 1
            if move:
                seen["kind of move"][move] += 1
    result = {}
    for name, counts in seen.items():
        groups: dict[str, list[int]] = defaultdict(list)
        for key, times in counts.items():
            groups[key.split()[0] if name.endswith("number") else ""].append(times)
        result[name] = max(float(abs(np.array(g) / np.mean(g) - 1).max()) for g in groups.values())
    return result


def agreement(frames: int) -> tuple[int, float, float, int]:
    """Mask IoU of computed silhouettes with rendered masks, objects of at least 150 pixels.

    Returns:
        number of objects, smallest and mean IoU, number below 0.97.
    """
    config = load_config("star", ["render.samples=1", "render.denoise=false"])
    wide = load_config("random-view", ["render.samples=1", "render.denoise=false"])
    stage = Stage(config)
    overlaps: list[float] = []
    samplers = [Sampler.from_config(c) for c in (wide, config)]
    for index in range(frames):
        sampler = samplers[index % 2]
        plan = sampler.plan(index)
        state_name, camera_name = plan.views[index % len(plan.views)]
        objects = visible_objects(plan.state(state_name, sampler.world), sampler.world)
        camera = plan.cameras[camera_name]
        stage.light(plan.lights)
        stage.show(objects)
        stage.point_camera(camera)
        mask = render_frame(stage).mask
        view = rasterize(objects, camera, sampler.world, mask.shape[1], mask.shape[0])
        for k, obj in enumerate(objects):
            rendered, computed = mask == obj.index + 1, view.ids == k
            if rendered.sum() >= 150:
                overlaps.append(float((rendered & computed).sum() / (rendered | computed).sum()))
    values = np.array(overlaps)
    return len(values), float(values.min()), float(values.mean()), int((values < 0.97).sum())


TIMED = """
import sys, time
sys.path.insert(0, sys.argv[1])
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config
sampler = Sampler.from_config(load_config(sys.argv[2]))
for index in range(30):
    sampler.plan(index)
start = time.process_time()
for index in range(30, 230):
    sampler.plan(index)
print(200 / (time.process_time() - start))
"""


def rate_of(checkout: Path, preset: str) -> float:
    """Plans per CPU second of the code in a checkout, in a process of its own."""
    command = [sys.executable, "-c", TIMED, str(checkout), preset]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    return float(done.stdout)


def compare(checkout: Path, presets: Sequence[str], turns: int = 5) -> None:
    """Print how fast this code plans beside another checkout's: medians of runs in turns."""
    for preset in presets:
        rates = [(rate_of(checkout, preset), rate_of(ROOT, preset)) for _ in range(turns)]
        before, now = np.median(rates, axis=0)
        ratio = np.median([b / a for a, b in rates])
        print(f"{preset}: {before:.0f} plans per CPU second before, {now:.0f} now: {ratio:.2f}")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=200, help="rendered for the agreement")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    asked = parser.parse_args()
    frames = asked.frames
    if asked.against is not None:
        compare(asked.against.resolve(), ("star", "trance"))
        return
    console = Console(width=110, file=blender.start())
    table = Table("preset", "plans per CPU second", *STAGES, title="Planning, one core")
    for preset in ("star", "trance", "random-view", "orbit"):
        rate, shares = speed(preset)
        table.add_row(preset, f"{rate:.0f}", *(f"{s:.0%}" for s in shares.values()))
    console.print(table)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory of planning: {memory:.0f} MiB")
    table = Table("marginal", "star", "trance", title="Balance over 10,000 samples: deviation")
    star, trance = balance("star"), balance("trance")
    for name in trance:
        table.add_row(name, f"{star[name]:.2%}" if name in star else "", f"{trance[name]:.2%}")
    console.print(table)
    count, least, mean, below = agreement(frames)
    console.print(
        f"silhouettes against {frames} rendered masks, {count} objects of at least 150 px: "
        f"IoU at least {least:.4f}, mean {mean:.4f}, {below} below 0.97"
    )


if __name__ == "__main__":
    main()

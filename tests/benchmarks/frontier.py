"""The frontier of quality against cost, on named scenes with glass.

Renders the same frames at every setting and compares them with a reference of many samples of the
same look and other random numbers: dB (PSNR of the 8-bit pictures), SSIM (of luminance, Gaussian
windows of sigma 1.5), and CPU seconds. Each is averaged over the scenes.

python tests/benchmarks/frontier.py [--width W] [--height H] [--scenes N] [--reference N]
    [--settings TEXT] [--pictures FOLDER] [--markdown FILE] [--plot FILE.png]

With --pictures every picture is kept in a folder, and a run that was stopped goes on from there.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter

from star_tvr.generator import blender
from star_tvr.generator.frames import render_frame
from star_tvr.generator.stage import Stage
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.states import visible_objects
from star_tvr.schemas.config import QUALITIES, load_config

SCENES = 8
LEAST_GLASS = 3
REFERENCE_SEED = 1000
"""Cycles' seed of the first reference; with a setting's own, both would share their noise."""

SETTINGS = (
    "draft, 16 plain, 32 plain, 32 accurate, standard, 96~0.05 plain, 96~0.05 fast, "
    "96~0.05 accurate, 192~0.03 plain, 128 raw, trance"
)
"""The points that are measured, as `settings_of` reads them."""

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Shot:
    """A picture and what it cost."""

    image: Bytes
    cpu: float


class Camera:
    """Takes the initial frame of plans at one setting, and remembers what it has taken."""

    def __init__(
        self, config: DatasetConfig, first_seed: int = 0, folder: Path | None = None
    ) -> None:
        """Nothing is rendered yet; Blender's scene is built when it is needed."""
        self._config, self._seed, self._folder = config, first_seed, folder
        self._stage: Stage | None = None

    def take(self, number: int, plan: Plan) -> Shot:
        """The frame of a plan, from the folder where it is there."""
        seed = self._seed + number
        kept = self._folder / f"{self._name(plan, seed)}.npz" if self._folder else None
        if kept and kept.exists():
            with np.load(kept) as file:
                return Shot(file["image"], float(file["cpu"]))
        stage = self._ready(plan)
        stage.seed(seed)
        start = time.process_time()
        image = render_frame(stage).image
        shot = Shot(image, time.process_time() - start)
        if kept:
            part = kept.with_suffix(".part")
            with part.open("wb") as file:
                np.savez(file, image=shot.image, cpu=shot.cpu)
            part.rename(kept)
        return shot

    def _ready(self, plan: Plan) -> Stage:
        """The stage with the plan's scene on it; a new one has loaded all that Blender needs."""
        fresh = self._stage is None
        self._stage = stage = self._stage or Stage(self._config)
        stage.light(plan.lights)
        stage.show(plan.initial)
        stage.point_camera(plan.cameras["center"])
        if fresh:
            size = stage.size
            stage.resize(16, 12)
            render_frame(stage)
            stage.resize(*size)
        return stage

    def _name(self, plan: Plan, seed: int) -> str:
        parts = [self._config.to_json()[k] for k in ("world", "lights", "image", "render")]
        text = json.dumps([parts, plan.id, seed, blender.version()], sort_keys=True)
        return f"{plan.id}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def scenes(sampler: Sampler, count: int) -> list[Plan]:
    """The first samples of `trance` with all ten objects in view, at least three of them glass."""
    found: list[Plan] = []
    index = 0
    while len(found) < count:
        plan = sampler.plan(index)
        objects = visible_objects(plan.initial, sampler.world)
        if len(objects) == 10 and sum(o.material == "glass" for o in objects) >= LEAST_GLASS:
            found.append(plan)
        index += 1
    return found


def settings_of(name: str) -> dict[str, Any]:
    """The `render` settings of a quality, or of `SAMPLES[~ADAPTIVE] DENOISER`.

    The denoiser is `raw` for none, `plain` for one without guides, or the prefilter of its guides.

    >>> settings_of("96~0.05 fast")
    {'samples': '96', 'adaptive': '0.05', 'denoise': True, 'guides': True, 'prefilter': 'fast'}
    """
    if name in QUALITIES:
        return dict(QUALITIES[name])
    counts, _, last = name.partition(" ")
    samples, _, adaptive = counts.partition("~")
    guides = {"guides": False} if last in ("raw", "plain") else {"guides": True, "prefilter": last}
    return {"samples": samples, "adaptive": adaptive or "0", "denoise": last != "raw", **guides}


def config_of(width: int, height: int, settings: Mapping[str, Any]) -> DatasetConfig:
    """`trance` at a size, with these `render` settings."""
    texts = [f"render.{k}={str(v).lower()}" for k, v in settings.items()]
    return load_config("trance", [f"image.width={width}", f"image.height={height}", *texts])


def decibels(image: Bytes, reference: Bytes) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures."""
    error = np.mean((image.astype(float) - reference.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def ssim(image: Bytes, reference: Bytes) -> float:
    """Structural similarity (Wang et al., 2004) of the luminance."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    a, b = image @ weights, reference @ weights

    def blur(values: Floats) -> Floats:
        return np.asarray(gaussian_filter(values, 1.5))

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float(np.mean(top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


def plot(means: Mapping[str, NDArray[np.float64]], full: float, title: str, path: Path) -> None:
    """Draw dB over cost, a line through the settings that no other beats in both.

    Args:
        means: dB, SSIM and CPU seconds of each setting. Shape: (3,).
        full: CPU seconds of 512 raw samples.
    """
    figure, axes = plt.subplots(figsize=(8, 8), layout="constrained")
    best = -np.inf
    frontier = []
    for name, (loud, _, cpu) in sorted(means.items(), key=lambda item: item[1][2]):
        place, side = (7, -3), "left"
        if loud > best:
            best, place, side = loud, (-7, 3), "right"
            frontier.append((cpu, loud))
        color, weight = ("C1", "bold") if name in QUALITIES else ("C0", "normal")
        axes.plot(cpu, loud, "o", color=color, zorder=3)
        axes.annotate(
            name,
            (cpu, loud),
            place,
            textcoords="offset points",
            ha=side,
            fontsize=9,
            fontweight=weight,
        )
    axes.plot(*zip(*frontier, strict=True), color="0.7", zorder=1)
    for share in (12, 20):
        axes.axvline(full / share, color="0.6", linestyle=":", zorder=0)
        axes.annotate(
            f"1/{share} of 512 raw samples",
            (full / share, 0.02),
            xycoords=("data", "axes fraction"),
            rotation=90,
            fontsize=8,
            color="0.4",
            ha="right",
        )
    axes.set(xscale="log", xlabel="CPU seconds a frame", ylabel="dB against the reference")
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100], labels=["1", "2", "5", "10", "20", "50", "100"])
    axes.set_title(title, fontsize=9)
    axes.margins(x=0.12)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Print the table; write it as Markdown, with the command that made it, if asked to."""
    console = Console(width=110, file=blender.start())
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--reference", type=int, default=2048, help="samples")
    parser.add_argument(
        "--settings", default=SETTINGS, help="qualities, `96~0.05 fast` or `64 raw`"
    )
    parser.add_argument("--pictures", type=Path, help="folder to keep the pictures in")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--plot", type=Path, help="a PNG file")
    asked = parser.parse_args()
    if asked.pictures:
        asked.pictures.mkdir(parents=True, exist_ok=True)
    plans = scenes(Sampler.from_config(load_config("trance")), asked.scenes)
    size = asked.width, asked.height
    exact = config_of(*size, settings_of(f"{asked.reference} raw"))
    truth = Camera(exact, REFERENCE_SEED, asked.pictures)
    names = [name.strip() for name in asked.settings.split(",")]
    cameras = {n: Camera(config_of(*size, settings_of(n)), 0, asked.pictures) for n in names}
    dear, found = 0.0, {name: np.zeros((len(plans), 3)) for name in names}
    for number, plan in enumerate(plans):  # all settings side by side, should the machine change
        reference = truth.take(number, plan)
        dear += reference.cpu / len(plans)
        for name, camera in cameras.items():
            shot = camera.take(number, plan)
            pair = shot.image, reference.image
            found[name][number] = decibels(*pair), ssim(*pair), shot.cpu
    means = {name: values.mean(axis=0) for name, values in found.items()}
    full = means["trance"][2] if "trance" in means else dear * 512 / asked.reference
    columns = ["setting", "dB", "worst scene", "SSIM", "CPU s/frame", "of raw 512"]
    rows = [
        [
            name,
            f"{loud:.1f}",
            f"{found[name][:, 0].min():.1f}",
            f"{alike:.4f}",
            f"{cpu:.2f}",
            f"1/{full / cpu:.1f}",
        ]
        for name, (loud, alike, cpu) in means.items()
    ]
    title = (
        f"{asked.width} x {asked.height}, {len(plans)} scenes "
        f"(trance {', '.join(p.id for p in plans)}), reference raw {asked.reference}: "
        f"{dear:.1f} CPU s/frame"
    )
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if asked.plot:
        plot(means, full, title.partition(" (")[0], asked.plot)
    if asked.markdown:
        lines = [f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows]]
        command = " ".join(["python", *sys.argv])
        asked.markdown.write_text("\n".join([title, "", *lines, "", f"`{command}`", ""]))


if __name__ == "__main__":
    main()

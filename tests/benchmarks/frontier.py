"""The frontier of quality against cost, on named scenes with glass.

Renders the same frames at every setting and compares them with a reference of many samples of the
same look: dB (PSNR of the 8-bit pictures), SSIM (of luminance, Gaussian windows of sigma 1.5), and
CPU seconds. Each is averaged over the scenes.

python tests/benchmarks/frontier.py [--width W] [--height H] [--scenes N] [--reference N]
    [--settings TEXT] [--markdown FILE]
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter

from generator import blender
from generator.frames import render_frame
from generator.stage import Stage
from scenes.plans import Plan
from scenes.sampler import Sampler
from scenes.states import visible_objects
from schemas.config import QUALITIES, load_config

SCENES = 8
LEAST_GLASS = 3
SETTINGS: dict[str, dict[str, Any]] = {
    "draft": QUALITIES["draft"],
    "denoised 16 fast": {"samples": 16, "denoise": True, "prefilter": "fast"},
    "denoised 16": {"samples": 16, "denoise": True, "prefilter": "accurate"},
    "denoised 24": {"samples": 24, "denoise": True, "prefilter": "accurate"},
    "denoised 32 fast": {"samples": 32, "denoise": True, "prefilter": "fast"},
    "standard": QUALITIES["standard"],
    "denoised 64": {"samples": 64, "denoise": True, "prefilter": "accurate"},
    "raw 64": {"samples": 64, "denoise": False},
    "raw 128": {"samples": 128, "denoise": False},
    "trance": QUALITIES["trance"],
}
"""Name and `render` settings of every point that is measured."""

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


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


def pictures(
    overrides: list[str], settings: dict[str, Any], plans: list[Plan], sampler: Sampler
) -> tuple[list[Bytes], float]:
    """The initial frame of every plan, and CPU seconds for one."""
    texts = [f"render.{k}={str(v).lower()}" for k, v in settings.items()]
    stage = Stage(load_config("trance", [*overrides, *texts]))
    images = []
    spent = 0.0
    for number, plan in enumerate(plans):
        stage.light(plan.lights)
        stage.show(plan.initial)
        stage.look(plan.cameras["center"])
        stage.seed(number)
        start = time.process_time()
        images.append(render_frame(stage).image)
        spent += time.process_time() - start
    return images, spent / len(plans)


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


def main() -> None:
    """Print the table; write it as Markdown, with the command that made it, if asked to."""
    console = Console(width=110, file=blender.start())
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--reference", type=int, default=2048, help="samples")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="names, by commas")
    parser.add_argument("--markdown", type=Path)
    asked = parser.parse_args()
    sampler = Sampler.from_config(load_config("trance"))
    plans = scenes(sampler, asked.scenes)
    size = [f"image.width={asked.width}", f"image.height={asked.height}"]
    exact = {"samples": asked.reference, "denoise": False}
    references, dear = pictures(size, exact, plans, sampler)
    names = [name.strip() for name in asked.settings.split(",")]
    found = {}
    for name in names:
        images, cpu = pictures(size, SETTINGS[name], plans, sampler)
        pairs = list(zip(images, references, strict=True))
        loud = [decibels(*pair) for pair in pairs]
        found[name] = (np.mean(loud), np.min(loud), np.mean([ssim(*pair) for pair in pairs]), cpu)
    columns = ["setting", "dB", "worst scene", "SSIM", "CPU s/frame"]
    full = found["trance"][3] if "trance" in found else dear * 512 / asked.reference
    columns.append("of raw 512")
    rows = [
        [n, f"{v[0]:.1f}", f"{v[1]:.1f}", f"{v[2]:.4f}", f"{v[3]:.2f}", f"1/{full / v[3]:.1f}"]
        for n, v in found.items()
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
    if asked.markdown:
        lines = [f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows]]
        command = " ".join(["python", *sys.argv])
        asked.markdown.write_text("\n".join([title, "", *lines, "", f"`{command}`", ""]))


if __name__ == "__main__":
    main()

"""Frames: the image, mask and depth that come out of one render, as arrays to store.

This module knows pixels and EXR files; it never touches Blender's scene.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import OpenEXR
from numpy.typing import NDArray

from star_tvr.generator import blender
from star_tvr.generator.errors import RenderError
from star_tvr.generator.stage import Stage

Floats32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]

FAR = 1e9
"""Cycles writes 1e10 as the depth of a pixel where there is nothing."""


DEPTH_SCALE = 0.001
"""Blender units to a step of the 16-bit depth files, which reach 65.5 units far."""


@dataclass(frozen=True)
class Frame:
    """What a camera sees.

    Attributes:
        image: sRGB. Shape: (h, w, 3), uint8.
        mask: index of the object at the centre of the pixel plus 1, or 0. Shape: (h, w), uint8.
        depth: distance along the viewing axis at the centre of the pixel, in Blender units;
            infinite where there is nothing. Shape: (h, w), float32.
        normals: unit normals in world axes, 0 where there is nothing; None unless the stage's
            configuration asks for them. Shape: (h, w, 3), float32.
        seconds: wall time of the render.
    """

    image: Bytes
    mask: Bytes
    depth: Floats32
    seconds: float
    normals: Floats32 | None = None


def render_frame(stage: Stage) -> Frame:
    """Render what is on the stage: image, mask and depth in one go.

    Raises:
        RenderError: Blender gave up, or wrote something unexpected.
    """
    start = time.perf_counter()
    path = stage.render()
    try:
        layers = read_layers(path)
    finally:
        path.unlink()
    depth = layers["Depth.Z"]
    return Frame(
        image=to_srgb(np.stack([layers[f"Combined.{c}"] for c in "RGB"], axis=-1)),
        mask=layers[f"{blender.index_pass()}.X"].round().astype(np.uint8),
        depth=np.where(depth < FAR, depth, np.float32(np.inf)),
        seconds=time.perf_counter() - start,
        normals=(
            np.stack([layers[f"Normal.{c}"] for c in "XYZ"], axis=-1)
            if "Normal.X" in layers
            else None
        ),
    )


def read_layers(path: Path) -> dict[str, Floats32]:
    """The channels of an EXR file, such as `Depth.Z`, without the name of the view layer.

    Shapes: (h, w) each, float32.

    Raises:
        RenderError: the file is not EXR or is damaged.
    """
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            return {
                name.partition(".")[2]: np.array(channel.pixels, dtype=np.float32)
                for name, channel in file.channels().items()
            }
    except (RuntimeError, ValueError) as problem:  # ValueError: no pixels, or no text in the header
        raise RenderError(f"{path}: {' '.join(str(problem).split())}") from None


def to_srgb(linear: Floats32) -> Bytes:
    """Linear light, clipped to 0…1, as 8-bit sRGB. Any shape.

    >>> to_srgb(np.array([-1, 0, 0.5, 1, 2], dtype=np.float32)).tolist()
    [0, 0, 188, 255, 255]
    """
    clipped = np.clip(linear, 0.0, 1.0)
    curved = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.rint(255 * curved).astype(np.uint8)


def depth_steps(depth: Floats32) -> NDArray[np.uint16]:
    """Depth in steps of `DEPTH_SCALE`; 0 where there is nothing or it is too far. Any shape.

    >>> depth_steps(np.array([2.0, 65.535, 70.0, np.inf], dtype=np.float32)).tolist()
    [2000, 65535, 0, 0]
    """
    steps = np.rint(np.where(np.isfinite(depth), depth, 0.0) / DEPTH_SCALE)
    return np.where(steps <= np.iinfo(np.uint16).max, steps, 0).astype(np.uint16)


def normal_colors(normals: Floats32, world_to_camera: NDArray[np.float64]) -> Bytes:
    """Normals as colours, (n + 1) / 2 * 255, in the axes of a camera (x right, y down, z forward).

    Where there is nothing the three values are 128.

    Args:
        normals: world axes. Shape: (..., 3).
        world_to_camera: shape (4, 4).
    """
    turned = normals @ world_to_camera[:3, :3].T
    return np.rint((np.clip(turned, -1.0, 1.0) + 1.0) / 2 * 255).astype(np.uint8)

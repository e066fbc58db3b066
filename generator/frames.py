"""Frames: the image, mask and depth that come out of one render, and their form on disk.

This module knows pixels and files; it never touches Blender's scene.
"""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import OpenEXR
import PIL.Image
from numpy.typing import NDArray

from generator import blender
from generator.stage import Stage
from scenes.errors import RenderError

Floats32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]

FAR = 1e9
"""Cycles writes 1e10 as the depth of a pixel where there is nothing."""


@dataclass(frozen=True)
class Frame:
    """What a camera sees.

    Attributes:
        image: sRGB. Shape: (h, w, 3), uint8.
        mask: index of the object at the centre of the pixel plus 1, or 0. Shape: (h, w), uint8.
        depth: distance along the viewing axis at the centre of the pixel, in Blender units;
            infinite where there is nothing. Shape: (h, w), float32.
        seconds: wall time of the render.
    """

    image: Bytes
    mask: Bytes
    depth: Floats32
    seconds: float


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
    except RuntimeError as problem:
        raise RenderError(f"{path}: {' '.join(str(problem).split())}") from None


def to_srgb(linear: Floats32) -> Bytes:
    """Linear light, clipped to 0…1, as 8-bit sRGB. Any shape.

    >>> to_srgb(np.array([-1, 0, 0.5, 1, 2], dtype=np.float32)).tolist()
    [0, 0, 188, 255, 255]
    """
    clipped = np.clip(linear, 0.0, 1.0)
    curved = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.rint(255 * curved).astype(np.uint8)


def encode_png(array: Bytes) -> bytes:
    """A PNG file of a picture (h, w, 3) or a mask (h, w), both uint8.

    The same array always gives the same bytes: no times or program names are stored.
    """
    buffer = io.BytesIO()
    PIL.Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()

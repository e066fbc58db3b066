"""Pictures as files: decoding them completely, and the one way of writing them."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from star_tvr.scenes.errors import DataError

LARGEST = 8192
"""Width and height, in pixels, that a picture of a data set has at most."""


def decode_png(
    content: bytes,
    where: str | Path,
    mode: str | None = None,
    size: tuple[int, int] | None = None,
) -> PIL.Image.Image:
    """Decode a PNG file to its last byte.

    Args:
        where: the file, for errors.
        mode: what it must be: `RGB` for pictures, `L` for masks.
        size: width and height that it must have, in pixels; by default any up to `LARGEST`.
            Others are refused before they are decoded.

    Raises:
        DataError: it is truncated, damaged, too large to be meant, no PNG, or another picture.
    """
    try:
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            check_kind(where, picture.mode, picture.size, mode, size)
            picture.verify()  # checksums, and the end
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
            return picture
    except PIL.UnidentifiedImageError:
        raise DataError(f"{where}: the image is damaged (this is no PNG file)") from None
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as problem:
        # Pillow raises SyntaxError for a damaged chunk.
        raise DataError(f"{where}: the image is damaged ({problem})") from None


def check_kind(
    where: str | Path,
    mode: str,
    size: tuple[int, int],
    wanted_mode: str | None = None,
    wanted_size: tuple[int, int] | None = None,
) -> None:
    """Raise DataError, naming `where`, for a picture of another mode or size than wanted."""
    wanted_mode, wanted_size = wanted_mode or mode, wanted_size or size
    if (mode, size) != (wanted_mode, wanted_size):
        raise DataError(
            f"{where}: is {mode} {size[0]} x {size[1]}, and should be "
            f"{wanted_mode} {wanted_size[0]} x {wanted_size[1]}"
        )
    if max(size) > LARGEST:
        raise DataError(f"{where}: is {size[0]} x {size[1]}, larger than {LARGEST} x {LARGEST}")


def encode_png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A PNG file of a picture (h, w, 3) or a mask (h, w), both uint8, or steps (h, w), uint16.

    The same pixels always give the same bytes: no times or program names are stored.
    """
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()

"""Pictures as files: decoding them completely, and the one way of writing them."""

import base64
import io
from functools import cache
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
        mode: what it must be: `RGB` for pictures, `L` for masks. These are palette files, or gray
            ones in older data sets; what is returned is gray, with the values of the pixels.
        size: width and height that it must have, in pixels; by default any up to `LARGEST`.
            Others are refused before they are decoded.

    Raises:
        DataError: it is truncated, damaged, too large to be meant, no PNG, or another picture.
    """
    try:
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            palette = (mode, picture.mode) == ("L", "P")
            check_kind(where, "L" if palette else picture.mode, picture.size, mode, size)
            picture.verify()  # checksums, and the end
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
            return PIL.Image.fromarray(np.asarray(picture)) if palette else picture
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
    """A PNG file of a picture (h, w, 3), uint8, or of steps (h, w), uint16.

    The same pixels always give the same bytes: no times or program names are stored.
    """
    return _encode(PIL.Image.fromarray(pixels))


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """A PNG file of a mask (h, w): 8-bit numbers with a palette, so that viewers show colors.

    The same pixels always give the same bytes, as in `encode_png`.
    """
    picture = PIL.Image.fromarray(mask)
    picture.putpalette([value for color in mask_palette() for value in color])  # now of mode P
    return _encode(picture, bits=8)


def is_gray(content: bytes) -> bool:
    """Whether a PNG file holds brightness alone, as masks of older data sets do."""
    return content[25:26] == b"\0"  # the kind of color in its header


HUES = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0)),
    *((204, 121, 167), (255, 255, 255), (170, 60, 255), (120, 200, 40), (255, 80, 80)),
    (0, 220, 220),
)
"""The colors of the first objects: those of Okabe and Ito, which the color-blind can tell apart,
and some more."""


@cache
def mask_palette() -> tuple[tuple[int, int, int], ...]:
    """The color, sRGB, of each of the 256 values of a mask; 0, the background, is black.

    From the thirteenth object on the colors come again, each time a little darker.
    """
    shades = (1 - 0.035 * (k // len(HUES)) for k in range(255))
    colors = (
        (round(shade * r), round(shade * g), round(shade * b))
        for shade, (r, g, b) in zip(shades, HUES * 22, strict=False)
    )
    return ((0, 0, 0), *colors)


def data_url(image: PIL.Image.Image) -> str:
    """An image as a PNG in a URL; no value of a pixel is lost."""
    return f"data:image/png;base64,{base64.b64encode(_encode(image)).decode()}"


def _encode(picture: PIL.Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()

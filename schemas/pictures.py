"""Pictures as files: decoding them completely, and the one way of writing them."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from star_tvr.scenes.errors import DataError


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
        size: width and height that it must have, in pixels. Others are refused before they are
            decoded.

    Raises:
        DataError: it is truncated, damaged, too large to be meant, no PNG, or another picture.
    """
    try:
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            found = (picture.mode, picture.size)
            wanted = (mode or picture.mode, size or picture.size)
            if found != wanted:
                raise DataError(f"{where}: is {_words(*found)}, and should be {_words(*wanted)}")
            picture.verify()  # checksums, and the end
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
            return picture
    except PIL.UnidentifiedImageError:
        raise DataError(f"{where}: the image is damaged (this is no PNG file)") from None
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as problem:
        # Pillow raises SyntaxError for a damaged chunk.
        raise DataError(f"{where}: the image is damaged ({problem})") from None


def _words(mode: str, size: tuple[int, int]) -> str:
    return f"{mode} {size[0]} x {size[1]}"


def encode_png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A PNG file of a picture (h, w, 3) or a mask (h, w), both uint8, or steps (h, w), uint16.

    The same pixels always give the same bytes: no times or program names are stored.
    """
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()

"""Pictures as files: decoding them completely, and the one way of writing them."""

import io
from pathlib import Path

import PIL.Image

from scenes.errors import DataError


def decode_png(content: bytes, where: str | Path) -> PIL.Image.Image:
    """Decode a PNG file to its last byte.

    Raises:
        DataError: it is truncated, damaged, too large to be meant, or no PNG.
    """
    try:
        PIL.Image.open(io.BytesIO(content), formats=["PNG"]).verify()  # checksums, and the end
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
            return picture
    except PIL.UnidentifiedImageError:
        raise DataError(f"{where}: the image is damaged (this is no PNG file)") from None
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as problem:
        # Pillow raises SyntaxError for a damaged chunk.
        raise DataError(f"{where}: the image is damaged ({problem})") from None


def encode_png(picture: PIL.Image.Image) -> bytes:
    """A PNG file; the same pixels always give the same bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()

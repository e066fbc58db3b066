"""Pictures as files."""

import io

import numpy as np
import PIL.Image
import pytest

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.pictures import (
    decode_png,
    encode_mask,
    encode_png,
    is_gray,
    mask_palette,
)


@pytest.mark.parametrize(("shape", "kind"), [((4, 6, 3), np.uint8), ((4, 6), np.uint16)])
def test_png_is_lossless_and_the_same_every_time(tmp_path, shape, kind):
    array = np.random.default_rng(1).integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)
    data = encode_png(array)
    assert data == encode_png(array.copy())
    (tmp_path / "a.png").write_bytes(data)
    with PIL.Image.open(tmp_path / "a.png") as image:
        assert not image.info
        assert np.array_equal(np.asarray(image), array)


def test_another_picture_is_refused_before_it_is_decoded():
    content = encode_png(np.zeros((4, 6, 3), np.uint8))
    assert decode_png(content, "x.png", "RGB", (6, 4)).size == (6, 4)
    for mode, size in (("L", (6, 4)), ("RGB", (4, 6))):
        with pytest.raises(DataError, match=r"^x.png: is RGB 6 x 4, and should be "):
            decode_png(content[:60], "x.png", mode, size)


def test_a_viewer_shows_a_mask_and_its_pixels_are_the_numbers():
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    content = encode_mask(mask)
    assert content == encode_mask(mask.copy()) and not is_gray(content)
    with PIL.Image.open(io.BytesIO(content)) as picture:
        assert picture.mode == "P" and np.array_equal(np.asarray(picture), mask)
        shown = np.asarray(picture.convert("RGB")).reshape(256, 3)
    assert [tuple(color) for color in shown.tolist()] == list(mask_palette())
    assert len(set(mask_palette())) == 256
    assert min(max(color) for color in mask_palette()[1:]) > 32  # not black, as the background is


def test_masks_are_read_as_they_are_and_as_they_were():
    mask = np.random.default_rng(2).integers(0, 9, (4, 6), np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(mask).save(stream, "PNG")
    assert is_gray(stream.getvalue())
    for content in (encode_mask(mask), stream.getvalue()):
        picture = decode_png(content, "x.png", "L", (6, 4))
        assert picture.mode == "L" and np.array_equal(np.asarray(picture), mask)
    with pytest.raises(DataError, match=r"^x.png: is P 6 x 4, and should be RGB 6 x 4"):
        decode_png(encode_mask(mask), "x.png", "RGB", (6, 4))

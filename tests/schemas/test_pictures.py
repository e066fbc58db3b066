"""Pictures as files."""

import numpy as np
import PIL.Image
import pytest

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.pictures import decode_png, encode_png


@pytest.mark.parametrize(
    ("shape", "kind"), [((4, 6, 3), np.uint8), ((4, 6), np.uint8), ((4, 6), np.uint16)]
)
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

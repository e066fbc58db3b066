"""Pictures as files."""

import numpy as np
import PIL.Image
import pytest

from star_tvr.schemas.pictures import encode_png


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

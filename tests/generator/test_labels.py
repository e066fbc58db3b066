"""Labels measured in a mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_tvr.generator.labels import image_labels, measure, visibility
from star_tvr.scenes.relations import relations
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.schemas.config import load_config

TRANCE = Sampler.from_config(load_config("trance"))


def test_boxes_leave_out_their_far_edges():
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:7] = 5
    assert measure(mask, 4) == ((3, 2, 7, 4), 8)
    assert measure(mask, 3) == (None, 0)


@given(st.integers(0, 4), st.integers(0, 6), st.integers(0, 3), st.integers(0, 5))
def test_a_box_cuts_out_the_object(y, x, height, width):
    mask = np.zeros((10, 12), np.uint8)
    mask[y : y + height, x : x + width] = 1
    box, pixels = measure(mask, 0)
    assert pixels == height * width == (mask == 1).sum()
    assert (box is None) == (pixels == 0)
    if box:
        x0, y0, x1, y1 = box
        assert (mask[y0:y1, x0:x1] == 1).all()


@pytest.mark.parametrize(
    ("pixels", "alone", "share"), [(0, 10, 0), (5, 10, 0.5), (11, 10, 1), (0, 0, 0), (1, 3, 0.3333)]
)
def test_visibility_is_a_share(pixels, alone, share):
    assert visibility(pixels, alone) == share


@given(st.integers(0, 30))
def test_labels_of_a_computed_mask(index):
    plan, world = TRANCE.plan(index), TRANCE.world
    for state_name, name in plan.views:
        state = plan.initial if state_name == "initial" else plan.final
        objects, camera = visible_objects(state, world), plan.cameras[name]
        view = rasterize(objects, camera, world, 160, 120)
        numbers = np.array([0, *(o.index + 1 for o in objects)], np.uint8)
        mask = numbers[view.ids + 1]
        image = image_labels(mask, state_name, state, name, camera, world, True)
        assert (image.width, image.height) == (160, 120)
        assert (image.path, image.mask) == (
            f"{state_name}-{name}.png",
            f"{state_name}-{name}.mask.png",
        )
        assert [o.index for o in image.objects] == [o.index for o in objects]
        assert [o.pixels for o in image.objects] == view.pixels.tolist()
        assert image.relations == relations(objects, camera)
        for o, alone, pixels in zip(image.objects, view.unoccluded, view.pixels, strict=True):
            assert o.visibility == pytest.approx(pixels / alone, abs=1e-4)
            assert o.depth > 0
            assert (o.bbox is None) == (pixels == 0)


def test_without_a_mask_there_is_no_name_of_one():
    plan = TRANCE.plan(0)
    mask = np.zeros((12, 16), np.uint8)
    camera = plan.cameras["center"]
    image = image_labels(mask, "initial", plan.initial, "center", camera, TRANCE.world, False)
    assert image.mask is None
    assert {o.bbox for o in image.objects} == {None}

"""Computed visibility against brute force on scenes that have nothing to do with the planner."""

import numpy as np
import pytest

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.states import SceneObject
from star_tvr.scenes.visibility import rasterize, reference_size
from star_tvr.schemas.config import load_config
from star_tvr.schemas.records import camera_to_json
from tests.scenes import reference

WORLD = load_config("trance").world
NEAR, FAR = (6.5, 0.0, 3.5), (-8.0, 7.0, 9.0)
POSITIONS = [(9.481, 0.0, 6.344), (7.481, -6.508, 6.344), FAR, NEAR, (0.5, -11.0, 2.2)]


def scene(seed):
    """Up to ten objects anywhere on the visible area that do not overlap."""
    rng = np.random.default_rng(seed)
    objects = []
    for _ in range(200):
        new = SceneObject(
            index=len(objects),
            shape=str(rng.choice(sorted(WORLD.shapes))),
            size=str(rng.choice(sorted(WORLD.sizes))),
            color="red",
            material="rubber",
            x=float(rng.uniform(-3, 3)),
            y=float(rng.uniform(-3, 3)),
            rotation=float(rng.uniform(0, 7)),
        )
        free = all(
            np.hypot(new.x - o.x, new.y - o.y) > new.radius(WORLD) + o.radius(WORLD) + WORLD.gap
            for o in objects
        )
        if free and len(objects) < 10:
            objects.append(new)
    return tuple(objects)


def brute_force(objects, camera, size):
    stored = [o.to_json(WORLD) for o in objects]
    return reference.id_map(stored, camera_to_json(camera, *size), *size)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("seed", range(6))
def test_silhouettes_agree_with_brute_force(seed, position):
    objects, camera = scene(seed), Camera(position)
    view = rasterize(objects, camera, WORLD, 320, 240)
    expected = brute_force(objects, camera, (320, 240))
    assert view.pixels.sum() > 2000
    for k in range(len(objects)):
        mine, other = view.ids == k, expected == k
        if other.sum() >= 150:
            assert (mine & other).sum() / (mine | other).sum() >= 0.97, objects[k]
        assert abs(int(mine.sum()) - int(other.sum())) <= 16 + 0.03 * other.sum()


@pytest.mark.parametrize("seed", range(3))
def test_counts_follow_from_the_picture(seed):
    objects, camera = scene(seed), Camera(POSITIONS[seed])
    view = rasterize(objects, camera, WORLD, 160, 120)
    for k, o in enumerate(objects):
        assert view.pixels[k] == (view.ids == k).sum()
        alone = rasterize((o,), camera, WORLD, 160, 120)
        assert alone.pixels[0] == alone.unoccluded[0] == view.unoccluded[k]
        assert view.pixels[k] <= view.unoccluded[k]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_objects_does_not_matter(seed):
    objects, camera = scene(seed), Camera(FAR)
    forward = rasterize(objects, camera, WORLD, 160, 120)
    backward = rasterize(objects[::-1], camera, WORLD, 160, 120)
    assert forward.pixels.tolist() == backward.pixels.tolist()[::-1]


def test_nothing_is_seen_of_nothing():
    view = rasterize((), Camera(FAR), WORLD, 32, 24)
    assert view.pixels.size == 0
    assert (view.ids == -1).all()


def test_a_large_object_hides_a_small_one_behind_it():
    def cube(index, size, x):
        return SceneObject(index, "cube", size, "red", "rubber", x, 0.0, 0.0)

    low = Camera((12.0, 0.0, 0.6), (0.0, 0.0, 0.6))
    view = rasterize((cube(0, "large", 2.0), cube(1, "small", -2.0)), low, WORLD, 320, 240)
    assert view.pixels[1] == 0 < view.unoccluded[1]
    assert view.pixels[0] == view.unoccluded[0]


@pytest.mark.parametrize("size", [(320, 240), (64, 48), (640, 480), (1000, 300), (33, 97)])
def test_thresholds_are_counted_in_images_of_one_area(size):
    width, height = reference_size(*size)
    assert width * height == pytest.approx(320 * 240, rel=0.02)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)

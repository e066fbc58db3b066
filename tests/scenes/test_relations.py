"""Left, right, front and behind, as cameras see them."""

from hypothesis import given
from hypothesis import strategies as st

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.relations import MARGIN, relations
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.states import SceneObject
from star_tvr.schemas.config import load_config

STAR = Sampler.from_config(load_config("star"))
OPPOSITE = {"left": "right", "right": "left", "front": "behind", "behind": "front"}
CENTER = Camera((9.481, 0.0, 6.344))


def at(index, x, y):
    return SceneObject(index, "cube", "small", "red", "rubber", x, y, 0.0)


def test_seen_from_the_center():
    table = relations((at(0, 0, 0), at(1, 2, 0), at(2, 0, 2)), CENTER)
    assert table["front"][0] == (1,)
    assert table["behind"][1] == (0, 2)
    assert table["right"][0] == (2,)
    assert table["left"][2] == (0, 1)
    assert table["left"][0] == ()


def test_seen_from_behind_everything_is_turned_round():
    objects = (at(0, 0, 0), at(1, 2, 0), at(2, 0, 2))
    back = relations(objects, Camera((-9.481, 0.0, 6.344)))
    table = relations(objects, CENTER)
    assert {back[OPPOSITE[k]] == v for k, v in ((k, table[k]) for k in table)} == {True}


def test_neighbours_are_neither_left_nor_right():
    table = relations((at(0, 0, 0), at(1, 1, MARGIN / 2)), CENTER)
    assert table["left"] == table["right"] == {0: (), 1: ()}


@given(st.integers(0, 40))
def test_opposites_and_keys(index):
    plan = STAR.plan(index)
    for camera in plan.cameras.values():
        table = relations(plan.initial, camera)
        assert set(table) == set(OPPOSITE)
        for name, opposite in OPPOSITE.items():
            assert list(table[name]) == [o.index for o in plan.initial]
            for one, others in table[name].items():
                assert one not in others
                assert all(one in table[opposite][other] for other in others)


@given(st.integers(0, 40))
def test_objects_left_appear_left_at_equal_depth(index):
    plan = STAR.plan(index)
    for camera in plan.cameras.values():
        right = camera.world_to_camera()[0, :2]
        table = relations(plan.initial, camera)
        for one, others in table["right"].items():
            for other in others:
                a, b = plan.initial[one], plan.initial[other]
                assert right @ (b.x - a.x, b.y - a.y) > MARGIN * 0.99

"""Cameras: matrices, angles, and projection against an independent formula."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from star_tvr.scenes.cameras import Camera, angle_between
from star_tvr.schemas.config import load_config
from star_tvr.schemas.records import camera_to_json
from tests.scenes import reference

NAMED = {name: Camera(c.position) for name, c in load_config("trance").cameras.named.items()}


@st.composite
def cameras(draw):
    """A camera on a shell around a target near the origin."""
    azimuth = np.radians(draw(st.floats(-180, 180)))
    elevation = np.radians(draw(st.floats(5, 85)))
    distance = draw(st.floats(6, 20))
    target = np.array([draw(st.floats(-1, 1)), draw(st.floats(-1, 1)), draw(st.floats(0, 1))])
    direction = (
        np.cos(elevation) * np.cos(azimuth),
        np.cos(elevation) * np.sin(azimuth),
        np.sin(elevation),
    )
    position = target + distance * np.array(direction)
    focal_length = draw(st.floats(20, 80))
    px, py, pz = map(float, position)
    tx, ty, tz = map(float, target)
    return Camera((px, py, pz), (tx, ty, tz), focal_length)


sizes = st.tuples(st.integers(16, 2000), st.integers(16, 2000))
points = st.lists(st.tuples(*[st.floats(-3, 3)] * 3), min_size=1, max_size=8).map(np.array)


@given(cameras())
def test_world_to_camera_is_rigid(camera):
    matrix = camera.world_to_camera()
    rotation = matrix[:3, :3]
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert matrix @ [*camera.position, 1] == pytest.approx([0, 0, 0, 1], abs=1e-9)
    assert matrix[3].tolist() == [0, 0, 0, 1]


@given(cameras(), sizes)
def test_the_target_is_the_centre_of_the_image(camera, size):
    width, height = size
    u, v, depth = camera.project(np.array([camera.target]), width, height)[0]
    assert (u, v) == pytest.approx((width / 2, height / 2), abs=1e-6)
    assert depth == pytest.approx(camera.distance)


@given(cameras(), sizes, points)
def test_projection_agrees_with_an_independent_formula(camera, size, where):
    expected = reference.project(where, camera_to_json(camera, *size), *size)
    assume((expected[:, 2] > 0.1).all())
    assert camera.project(where, *size) == pytest.approx(expected, rel=1e-6, abs=1e-4)


@given(cameras(), sizes, points)
def test_stored_matrices_project_alike(camera, size, where):
    stored = camera_to_json(camera, *size)
    local = np.column_stack([where, np.ones(len(where))]) @ np.array(stored["world_to_camera"]).T
    pixels = local[:, :3] @ np.array(stored["intrinsics"]).T
    assume((pixels[:, 2] > 0.1).all())
    expected = camera.project(where, *size)
    assert pixels[:, :2] / pixels[:, 2:] == pytest.approx(expected[:, :2], rel=1e-5, abs=1e-3)


@given(cameras())
def test_azimuth_and_elevation_lead_back_to_the_position(camera):
    azimuth, elevation = np.radians(camera.azimuth), np.radians(camera.elevation)
    offset = camera.distance * np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    assert np.array(camera.target) + offset == pytest.approx(np.array(camera.position), abs=1e-6)


@pytest.mark.parametrize(("name", "azimuth"), [("left", -41.0), ("center", 0.0), ("right", 41.0)])
def test_named_cameras(name, azimuth):
    assert NAMED[name].azimuth == pytest.approx(azimuth, abs=0.1)
    assert NAMED[name].elevation == pytest.approx(33, abs=1)


def test_up_is_up_and_right_is_right():
    center, up, right = NAMED["center"].project(
        np.array([[0.0, 0, 0], [0.0, 0, 1], [0.0, 1, 0]]), 320, 240
    )
    assert up[1] < center[1] and up[0] == pytest.approx(center[0])
    assert right[0] > center[0]


def test_what_is_in_front_is_nearer_and_lower():
    front, behind = NAMED["center"].project(np.array([[2.0, 0, 0], [-2.0, 0, 0]]), 320, 240)
    assert front[2] < behind[2]
    assert front[1] > behind[1]


def test_the_angle_between_left_and_right():
    direction = [NAMED[k].offset / NAMED[k].distance for k in ("left", "right")]
    expected = np.degrees(2 * np.arcsin(np.linalg.norm(direction[0] - direction[1]) / 2))
    assert angle_between(NAMED["left"], NAMED["right"]) == pytest.approx(expected)
    assert angle_between(NAMED["left"], NAMED["left"]) == pytest.approx(0, abs=1e-5)

"""Images, masks and depth: their types, their colours, and the steps of depth that are stored."""

import itertools

import numpy as np
import OpenEXR
import pytest

from star_tvr.generator.errors import RenderError
from star_tvr.generator.frames import (
    DEPTH_SCALE,
    depth_steps,
    normal_colors,
    read_layers,
    render_frame,
    to_srgb,
)
from star_tvr.generator.materials import to_linear
from star_tvr.generator.stage import Stage
from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.plan import Light
from star_tvr.scenes.states import SceneObject
from star_tvr.schemas.config import load_config

CONFIG = load_config(
    "trance",
    ["image.width=192", "image.height=96", "render.samples=8"],
)
WORLD = CONFIG.world


@pytest.fixture(scope="module")
def palette():
    """A frame with a small sphere of every colour of every material, and what they are."""
    stage = Stage(CONFIG)
    stage.light(
        {
            name: Light(lamp.position, lamp.color, lamp.size, lamp.power)
            for name, lamp in CONFIG.lights.lamps.items()
        }
    )
    stage.point_camera(Camera((9.481, 0.0, 6.344), focal_length=42.0))
    state = tuple(
        SceneObject(
            k, "sphere", "small", color, material, 1.2 * (k // 8 - 1), 0.8 * (k % 8 - 3.5), 0
        )
        for k, (material, color) in enumerate(itertools.product(WORLD.materials, WORLD.colors))
    )
    stage.show(state)
    return state, render_frame(stage)


def test_shapes_and_types(palette):
    _, frame = palette
    assert (frame.image.shape, frame.image.dtype) == ((96, 192, 3), np.uint8)
    assert (frame.mask.shape, frame.mask.dtype) == ((96, 192), np.uint8)
    assert (frame.depth.shape, frame.depth.dtype) == ((96, 192), np.float32)
    assert frame.depth.min() > 5
    assert frame.seconds > 0


def colors(palette, material):
    """The colour of each sphere of a material, by name: median of its pixels, 0 to 255."""
    state, frame = palette
    return {
        o.color: np.median(frame.image[frame.mask == o.index + 1].astype(float), axis=0)
        for o in state
        if o.material == material
    }


def hue(rgb):
    """Colour without lightness: share of red, green and blue in linear light."""
    linear = np.array(to_linear(rgb))
    return linear / linear.sum()


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def test_rubber_has_nearly_the_colours_of_the_palette(palette):
    seen = colors(palette, "rubber")
    for name, color in seen.items():
        distance = {k: np.linalg.norm(color - v) for k, v in WORLD.colors.items()}
        assert min(distance, key=distance.__getitem__) == name
        assert distance[name] < 70  # yellow gives back 70 % of the light at most


@pytest.mark.parametrize("material", ["rubber", "metal", "glass"])
def test_colours_can_be_told_apart_and_keep_their_hue(palette, material):
    seen = colors(palette, material)
    for first, second in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[first] - seen[second]) > 25, (first, second)
    for name, color in seen.items():
        if name == "gray":
            assert np.ptp(color) < 15
        else:
            assert cosine(hue(color), hue(WORLD.colors[name])) > 0.9, name


def test_ground_is_neither_black_nor_blown_out(palette):
    _, frame = palette
    ground = frame.image[frame.mask == 0]
    assert 90 < np.median(ground) < 230
    assert np.mean(ground >= 250) < 0.01 and np.mean(ground < 30) < 0.01


def test_srgb_curve_undoes_the_palette_and_clips():
    every = np.stack([np.arange(256)] * 3, axis=1)
    linear = np.array([to_linear(color) for color in every], dtype=np.float32)
    assert np.array_equal(to_srgb(linear), every)
    assert to_srgb(np.array([-1.0, 2.0, np.inf], dtype=np.float32)).tolist() == [0, 255, 255]


def test_layers_are_read_as_they_were_written(tmp_path):
    random = np.random.default_rng(0)
    written = {
        name: random.normal(size=(5, 7)).astype(np.float32)
        for name in ("Combined.R", "Depth.Z", "IndexOB.X")
    }
    header = {"compression": OpenEXR.NO_COMPRESSION, "type": OpenEXR.scanlineimage}
    path = tmp_path / "layers.exr"
    OpenEXR.File(header, {f"ViewLayer.{k}": v for k, v in written.items()}).write(str(path))
    read = read_layers(path)
    assert read.keys() == written.keys()
    for name, values in written.items():
        assert np.array_equal(read[name], values)


def test_damaged_layers_are_an_error(tmp_path):
    path = tmp_path / "layers.exr"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(RenderError, match="layers.exr"):
        read_layers(path)


def test_depth_steps_are_what_the_scale_says():
    depth = np.array([[0.5, 12.3456], [65.536, np.inf]], dtype=np.float32)
    steps = depth_steps(depth)
    assert steps.dtype == np.uint16
    assert steps[1].tolist() == [0, 0]
    assert np.allclose(steps[0] * DEPTH_SCALE, depth[0], atol=DEPTH_SCALE / 2)


def test_normals_turn_with_the_camera():
    """The top of the ground, seen from above at an angle, faces up and towards the camera."""
    camera = Camera((9.481, 0.0, 6.344))
    up = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    colors = normal_colors(up, camera.world_to_camera())
    x, y, z = colors[0] / 255 * 2 - 1
    angle = np.radians(camera.elevation)
    assert (x, y, z) == pytest.approx((0, -np.cos(angle), -np.sin(angle)), abs=0.01)
    assert colors[1].tolist() == [128, 128, 128]

"""What is on the stage is where the plan says, is seen as the camera says, and leaves no trace."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from star_tvr.generator import blender
from star_tvr.generator.frames import render_frame
from star_tvr.generator.stage import Stage
from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.plan import Light
from star_tvr.scenes.states import SceneObject
from star_tvr.schemas.config import load_config

WIDTH, HEIGHT = 64, 48
CONFIG = load_config(
    "trance",
    [f"image.width={WIDTH}", f"image.height={HEIGHT}", "render.samples=1", "render.denoise=false"],
)
WORLD = CONFIG.world
CENTER = Camera((9.481, 0.0, 6.344))
CAMERAS = [
    CENTER,
    Camera((7.481, -6.508, 6.344)),
    Camera((-3.0, 8.0, 3.5), target=(0.4, -0.2, 0.1), focal_length=50.0),
    Camera((0.5, 0.0, 12.0), sensor_width=24.0),
]


LIGHTS = {
    name: Light(lamp.position, lamp.color, lamp.size, lamp.power)
    for name, lamp in CONFIG.lights.lamps.items()
}


def lit_stage(*changes):
    """A stage with these changes to the configuration, the lamps on, seen by the center camera."""
    size = [f"image.width={WIDTH}", f"image.height={HEIGHT}"]
    stage = Stage(load_config("trance", [*size, *changes]))
    stage.light(LIGHTS)
    stage.point_camera(CENTER)
    return stage


@pytest.fixture(scope="module")
def stage():
    return lit_stage("render.samples=1", "render.denoise=false")


def ball(index=0, x=0.0, y=0.0, size="large", color="red", material="rubber", shape="sphere"):
    return SceneObject(index, shape, size, color, material, x, y, 0.0)


def rays(camera, width, height):
    """Origin (3,) and unit directions (h, w, 3) through the centres of the pixels."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    local = pixels @ np.linalg.inv(camera.intrinsics(width, height)).T
    directions = local @ camera.world_to_camera()[:3, :3]
    return np.array(camera.position), directions / np.linalg.norm(directions, axis=-1)[..., None]


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_sphere_covers_the_pixels_that_geometry_says(stage, camera):
    obj = ball(index=4, x=0.6, y=-0.45)
    stage.point_camera(camera)
    stage.show((obj,))
    frame = render_frame(stage)
    origin, directions = rays(camera, WIDTH, HEIGHT)
    to_center = np.array(obj.center(WORLD)) - origin
    along = directions @ to_center
    miss = np.linalg.norm(to_center - along[..., None] * directions, axis=-1)
    radius = obj.radius(WORLD)
    clear = np.abs(miss - radius) > 0.01 * radius  # the mesh is a polyhedron
    assert (np.where(miss < radius, 5, 0) == frame.mask)[clear].all()
    inside = miss < 0.9 * radius
    hit = along - np.sqrt(radius**2 - np.where(inside, miss, 0) ** 2)
    axis = camera.world_to_camera()[2, :3]
    assert np.allclose(frame.depth[inside], (hit * (directions @ axis))[inside], atol=0.01)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (50, 50)])
def test_our_projection_is_blenders(stage, camera, size):
    from bpy_extras.object_utils import world_to_camera_view  # type: ignore[import-not-found]
    from mathutils import Vector

    stage.point_camera(camera)
    stage.resize(*size)
    scene = stage._scene
    scene.view_layers[0].update()
    points = np.array([[0.0, 0.0, 0.0], [1.5, -2.0, 0.9], [-2.5, 1.0, 0.3]])
    for point, (u, v, depth) in zip(points, camera.project(points, *size), strict=True):
        x, y, z = world_to_camera_view(scene, scene.camera, Vector(point))
        assert (x * size[0], (1 - y) * size[1], z) == pytest.approx((u, v, depth), abs=1e-3)
    stage.resize(WIDTH, HEIGHT)


def test_mask_holds_index_plus_one_and_only_what_stands_in_the_visible_area(stage):
    stage.point_camera(CENTER)
    stage.show(
        (
            ball(0, 1.5, -1.5),
            ball(1, 1.5, 1.5, shape="cube", material="glass"),
            ball(2, -1.5, 0.0, shape="cylinder", material="metal"),
            ball(3, 3.15, 0.0),
            ball(4, 0.0, -4.5),
            ball(253, -3.0, 3.0),
        )
    )
    assert np.unique(render_frame(stage).mask).tolist() == [0, 1, 2, 3, 254]


def test_objects_stand_on_the_ground(stage):
    """A camera at the level of the ground sees them end where the ground begins."""
    low = Camera((12.0, 0.0, 0.02), target=(0.0, 0.0, 0.02))
    stage.point_camera(low)
    stage.show(tuple(ball(k, y=1.9 * (k - 1), shape=s) for k, s in enumerate(WORLD.shapes)))
    mask = render_frame(stage).mask
    level = HEIGHT / 2
    for value in (1, 2, 3):
        rows = np.flatnonzero((mask == value).any(axis=1))
        assert rows.max() + 1 == pytest.approx(level, abs=1.01)
    stage.point_camera(CENTER)


def test_size_and_rotation_reach_the_picture(stage):
    stage.point_camera(CENTER)
    areas = []
    for size in ("small", "medium", "large"):
        stage.show((ball(size=size),))
        areas.append(np.count_nonzero(render_frame(stage).mask))
    assert areas[0] * 2.5 < areas[1] and areas[1] * 1.8 < areas[2]
    above = Camera((0.01, 0.0, 9.0))
    stage.point_camera(above)
    widths = []
    for rotation in (0.0, math.pi / 4):
        stage.show((replace(ball(shape="cube"), rotation=rotation),))
        widths.append(np.count_nonzero((render_frame(stage).mask > 0).any(axis=0)))
    assert widths[0] * 1.2 < widths[1]
    stage.point_camera(CENTER)


def test_frames_depend_on_what_is_shown_and_not_on_what_was(stage):
    first = (ball(0, 1.0, -1.0, color="blue", material="glass"), ball(1, 0.0, 1.5, "small"))
    second = tuple(ball(k, 2.0 - k, 0.9 * k - 2, "small", "green", "metal") for k in range(5))
    stage.show(first)
    before = render_frame(stage)
    stage.show(second)
    stage.seed(7)
    assert not np.array_equal(before.image, render_frame(stage).image)
    stage.seed(0)
    stage.show(first)
    after = render_frame(stage)
    for name in ("image", "mask", "depth"):
        assert np.array_equal(getattr(before, name), getattr(after, name))


def test_lamps_that_are_not_named_are_dark(stage):
    stage.show((ball(),))
    full = render_frame(stage)
    stage.light({"key": LIGHTS["key"]})
    dim = render_frame(stage)
    stage.light(LIGHTS)
    assert dim.image[dim.mask == 1].mean() < 0.9 * full.image[full.mask == 1].mean()
    assert np.array_equal(render_frame(stage).image, full.image)


def test_adaptive_sampling_spares_samples_but_no_label():
    state = (ball(0, 1.0, -1.0, material="glass"), ball(1, 0.0, 1.2, "medium", material="metal"))
    size = [f"image.width={WIDTH}", f"image.height={HEIGHT}", "render.denoise=false"]
    frames = {}
    for samples, adaptive in ((16, 0), (48, 0.5), (48, 0), (16, 0.5)):
        settings = [f"render.samples={samples}", f"render.adaptive={adaptive}"]
        stage = Stage(load_config("trance", [*size, *settings]))
        stage.point_camera(CENTER)
        stage.show(state)
        frames[samples, adaptive] = render_frame(stage)
    plain = frames[16, 0]
    for frame in frames.values():
        assert np.array_equal(frame.mask, plain.mask) and np.array_equal(frame.depth, plain.depth)
    assert not np.array_equal(frames[48, 0.5].image, frames[48, 0].image)
    few = np.abs(frames[16, 0].image.astype(int) - frames[16, 0.5].image)
    assert few.max() <= 1, "no pixel is done before 16 samples"


def test_the_ground_fades_into_the_background_without_a_darker_band():
    stage = lit_stage()
    stage.show(())
    background = 255 * (1.055 * CONFIG.render.background[0] ** (1 / 2.4) - 0.055)
    for place in CONFIG.cameras.named.values():
        stage.point_camera(Camera(place.position))
        image = render_frame(stage).image
        assert image.min() > background - 6
        assert np.abs(image[0] - background).max() < 12, "the upper edge is nearly background"
        assert image.max() > background + 30


def test_a_brighter_sky_is_light_and_mirrored_but_not_seen():
    state = (ball(0, 0.0, 0.0, color="gray", material="metal"),)
    frames = {}
    for sky in (1.0, 4.0):
        stage = lit_stage(f"render.sky={sky}", "render.samples=32", "render.denoise=false")
        stage.show(state)
        frames[sky] = render_frame(stage)
    dim, bright = frames[1.0], frames[4.0]
    assert np.array_equal(dim.mask, bright.mask)
    assert np.abs(dim.image[0, 0].astype(int) - bright.image[0, 0]).max() <= 2, "far away"
    for inside in (dim.mask == 1, dim.mask == 0):
        assert bright.image[inside].mean() > dim.image[inside].mean() + 10


def test_tint_lightens_a_color():
    state = (ball(0, 0.0, 0.0, color="green", material="metal"),)
    means = []
    for tint in (0.0, 0.5):
        stage = lit_stage(f"world.materials.metal.tint={tint}", "render.denoise=false")
        stage.show(state)
        frame = render_frame(stage)
        means.append(frame.image[frame.mask == 1].mean(axis=0))
    assert (means[1] > means[0] + 10).all() and means[1].argmax() == means[0].argmax() == 1


def test_bright_rubber_is_not_lost_in_white():
    """Yellow is the brightest color; all sides of a cube still differ."""
    stage = lit_stage()
    stage.show((replace(ball(color="yellow", shape="cube"), rotation=0.4),))
    frame = render_frame(stage)
    assert (frame.image[frame.mask == 1][:, :2].min(axis=1) >= 254).mean() < 0.1


def test_a_draft_has_no_dots_on_the_ground():
    """What the denoiser leaves in soft shadows is no rougher than with many samples."""
    roughness = []
    for quality in ("draft", "standard"):
        stage = lit_stage(
            f"render.quality={quality}", "image.width=320", "image.height=240", "lights.jitter=0"
        )
        stage.show((ball(0, 1.2, -1.0), ball(1, -1.5, 0.5, shape="cylinder", material="metal")))
        frame = render_frame(stage)
        ground = frame.mask == 0
        light = frame.image.mean(axis=2)
        inside = ground[1:-1, 1:-1] & ground[:-2, 1:-1] & ground[2:, 1:-1]
        second = np.abs(2 * light[1:-1, 1:-1] - light[:-2, 1:-1] - light[2:, 1:-1])
        roughness.append((second[inside] > 3).mean())
    assert roughness[0] < 1.5 * roughness[1] + 0.002


@pytest.mark.parametrize("pattern", ["checker", "stripes"])
def test_a_pattern_is_a_material(pattern):
    """Light and dark fields of one hue, on what would be all of a color."""
    steps = []
    for material in ("{roughness: 0.7}", f"{{roughness: 0.7, pattern: {pattern}}}"):
        stage = lit_stage(
            *(f"world.materials.painted={material}", "render.samples=16"),
            *("image.width=160", "image.height=120"),
        )
        stage.show((ball(material="painted", shape="cylinder"),))
        frame = render_frame(stage)
        pixels, inside = frame.image.astype(float), frame.mask == 1
        assert (pixels[inside].argmax(axis=1) == 0).mean() > 0.95, "red everywhere"
        both = inside[1:] & inside[:-1]
        steps.append(np.abs(np.diff(pixels[..., 0], axis=0))[both].mean())
    assert steps[1] > 3 * steps[0]


def test_stages_share_a_process(stage):
    stage.show((ball(),))
    before = render_frame(stage)
    other = Stage(load_config("star", ["image.width=32", "image.height=24", "render.samples=1"]))
    other.point_camera(CENTER)
    other.light({})
    other.show((ball(8),))
    frame = render_frame(other)
    assert frame.image.shape == (24, 32, 3) and np.unique(frame.mask).tolist() == [0, 9]
    assert np.array_equal(before.image, render_frame(stage).image)


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def test_nothing_accumulates_over_frames(stage):
    bpy = blender.load()
    kinds = ("objects", "meshes", "materials", "lights", "cameras", "images", "node_groups")
    random = np.random.default_rng(0)
    places = [(x, y) for x in (-2.0, 0.0, 2.0) for y in (-2.0, 0.0, 2.0)]

    def anything(index):
        shape, size, color, material = (
            str(random.choice(WORLD.values(a))) for a in ("shape", "size", "color", "material")
        )
        x, y = places[index]
        return SceneObject(index, shape, size, color, material, x, y, rotation=0.0)

    def draw(frames):
        for _ in range(frames):
            stage.show(tuple(anything(k) for k in range(random.integers(1, 10))))
            stage.point_camera(CAMERAS[random.integers(2)])
            render_frame(stage)

    stage.resize(32, 24)
    stage.show(tuple(ball(k, size="small") for k in range(10)))
    draw(10)
    counts = [len(getattr(bpy.data, kind)) for kind in kinds]
    linux = Path("/proc/self/statm").exists()
    memory = resident_mb() if linux else 0
    draw(30)
    assert counts == [len(getattr(bpy.data, kind)) for kind in kinds]
    assert not linux or resident_mb() - memory < 15
    stage.resize(WIDTH, HEIGHT)
    stage.point_camera(CENTER)


def test_describe_says_how_it_was_rendered(stage):
    assert stage.describe() == {
        "engine": "cycles",
        "device": "cpu",
        "samples": 1,
        "denoiser": None,
        "blender": blender.version(),
    }
    assert stage.size == (WIDTH, HEIGHT)


def test_surroundings_vary_only_where_the_configuration_says_so(stage):
    stage.show((ball(),))
    before = render_frame(stage).image
    stage.surround(5)
    assert np.array_equal(before, render_frame(stage).image)
    changes = [f"image.width={WIDTH}", f"image.height={HEIGHT}", "render.samples=1"]
    varied = Stage(load_config("varied", [*changes, "render.denoise=false"]))
    varied.light({"key": Light((6.0, -3.0, 4.0), (1.0, 1.0, 1.0), 0.5, 300.0)})
    varied.point_camera(CENTER)
    varied.show((ball(),))
    frames = []
    for seed in (1, 2, 1):
        varied.surround(seed)
        frames.append(render_frame(varied))
    assert np.array_equal(frames[0].image, frames[2].image)
    ground = frames[0].mask == 0
    assert np.abs(frames[0].image[ground].astype(int) - frames[1].image[ground]).mean() > 5
    assert np.array_equal(frames[0].mask, frames[1].mask)

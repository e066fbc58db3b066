"""Configurations: presets, files, overrides, and what is refused with which words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_tvr.scenes.errors import ConfigError
from star_tvr.schemas.config import load_config, merge, parse_override, preset_names

PRESETS = ("basic", "event", "random-view", "star", "trance", "view")


def test_the_preset_is_no_setting():
    with pytest.raises(ConfigError, match="overrides=preset=star: .*config"):
        load_config("trance", ["preset=star"])


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset):
    config = load_config(preset)
    assert preset in preset_names()
    assert config.preset == preset
    assert (config.image.width, config.image.height) == (320, 240)
    assert config.visibility.min_pixels == 150


def test_the_numbers_of_trance():
    world = load_config("trance").world.to_json()
    assert world["sizes"] == {"small": 0.3, "medium": 0.6, "large": 0.9}
    assert world["colors"] == {
        "gray": [87, 87, 87],
        "red": [173, 35, 35],
        "blue": [42, 75, 215],
        "green": [29, 105, 20],
        "brown": [129, 74, 25],
        "purple": [129, 38, 192],
        "cyan": [41, 208, 208],
        "yellow": [255, 238, 51],
    }
    assert set(world["shapes"]) == {"cube", "sphere", "cylinder"}
    assert set(world["materials"]) == {"rubber", "metal", "glass"}
    assert (world["grid"], world["step"], world["gap"]) == (0.15, 1.5, 0.15)
    assert (world["visible_area"], world["valid_area"]) == (3, 6)


def write(folder, text, name="mine.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_builds_on_a_preset(tmp_path):
    path = write(tmp_path, "preset: star\nimage: {width: 64}\nobjects: {visible: [2, 3]}\n")
    config, star = load_config(path), load_config("star")
    assert (config.image.width, config.image.height) == (64, 240)
    assert config.objects.visible == (2, 3)
    assert config.transformations == star.transformations
    assert config.preset == "mine"


def test_a_file_builds_on_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "preset: star\nseed: 5\nnum_samples: 7\n", "base.yaml")
    write(tmp_path, "preset: base.yaml\nseed: 6\n", "mine.yaml")
    config = load_config("mine.yaml")
    assert (config.seed, config.num_samples) == (6, 7)


def test_overrides_come_last_and_in_order(tmp_path):
    path = write(tmp_path, "preset: star\nseed: 5\n")
    assert load_config(path, ["seed=6", "seed=7"]).seed == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image.width=160", {"image": {"width": 160}}),
        ("objects.visible=[1, 3]", {"objects": {"visible": [1, 3]}}),
        ("objects.total=null", {"objects": {"total": None}}),
        ("render.denoise=false", {"render": {"denoise": False}}),
        ("preset=a=b", {"preset": "a=b"}),
        ("cameras.final=[left, same]", {"cameras": {"final": ["left", "same"]}}),
    ],
)
def test_overrides(text, expected):
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["image.width", "=3", ".width=3", "image.=3", "a=[1", "a={", ""])
def test_overrides_of_another_form(text):
    with pytest.raises(ConfigError, match="^overrides="):
        load_config("star", [text])


def test_one_number_is_a_range():
    config = load_config("star", ["objects.visible=4", "cameras.shell.azimuth=30"])
    assert config.objects.visible == (4, 4)
    assert config.cameras.shell.azimuth == (30, 30)


def test_null_removes_an_entry():
    config = load_config("star", ["world.colors.gray=null", "lights.lamps.fill=null"])
    assert "gray" not in config.world.colors
    assert set(config.lights.lamps) == {"key", "back"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("imgae.width=3", "imgae: unknown key; did you mean image"),
        ("image.widht=3", "image.widht: unknown key; did you mean .*width"),
        ("image.zzz=3", "image.zzz: unknown key; known are height, width"),
        ("image.width=wide", "image.width: 'wide' is not of type 'integer'"),
        ("image.width=10.5", "image.width"),
        ("image.width=-3", "image.width"),
        ("image=3", "image: 3 is not of type 'object'"),
        ("num_samples=0", "num_samples"),
        ("num_samples=true", "num_samples"),
        ("seed=-1", "seed"),
        ("objects.visible=[5, 2]", "objects.visible: .*reversed"),
        ("objects.visible=[1, 2, 3]", "objects.visible"),
        ("objects.visible=[0, 2]", "objects.visible"),
        ("objects.total=300", "objects.total|objects.visible"),
        ("transformations.count=[0, 2]", "transformations.count"),
        ("transformations.count=[3, 2]", "transformations.count: .*reversed"),
        ("transformations.attributes=[]", "transformations.attributes"),
        ("transformations.attributes=[colour]", "transformations.attributes.*'colour'.*'color'"),
        ("transformations.moves=[up]", "transformations.moves.*'up'"),
        ("cameras.final=[top]", "cameras.final: 'top'.*known are center, left, right"),
        ("cameras.initial=[same]", "cameras.initial: 'same'"),
        ("cameras.initial=[center, center]", "cameras.initial: .*twice"),
        ("cameras.initial=[random, center, center]", "cameras.initial: 'center' is named twice"),
        ("cameras.final=[left, left]", "cameras.final: 'left' is named twice"),
        ("cameras.shell.azimuth=[90, -90]", "cameras.shell.azimuth: .*reversed"),
        ("cameras.shell.elevation=[0, 95]", "cameras.shell.elevation"),
        ("cameras.named.same.position=[1, 1, 1]", "cameras.named: .*same"),
        ("cameras.jitter=-1", "cameras.jitter"),
        ("visibility.min_pixels=100000", "visibility.min_pixels"),
        ("world.colors.red=[300, 0, 0]", "world.colors.red"),
        ("world.colors.Red!=[3, 0, 0]", "world.colors.*Red!"),
        ("world.shapes.torus={kind: torus}", "world.shapes.torus.kind"),
        ("world.sizes.huge=0", "world.sizes.huge"),
        ("world.materials.wood={rouhgness: 1}", "world.materials.wood.rouhgness.*roughness"),
        ("world.visible_area=7", "world.visible_area"),
        ("world.grid=0", "world.grid"),
        ("render.samples=0", "render.samples"),
        ("masks=perhaps", "masks"),
    ],
)
def test_wrong_values_name_file_and_key(tmp_path, override, expected):
    path = write(tmp_path, "preset: star\n")
    with pytest.raises(ConfigError, match=f"mine.yaml: {expected}"):
        load_config(path, [override])


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize(
    "key", ["cameras.jitter", "lights.jitter", "world.step", "world.sizes.big"]
)
def test_numbers_are_finite(key, number):
    with pytest.raises(ConfigError, match=key):
        load_config("star", [f"{key}={number}"])


@pytest.mark.parametrize("key", ["num_samples", "seed", "image.width", "render.samples"])
def test_whole_numbers_are_whole(key):
    """`64.0` is either refused or means 64; it must not reach Blender as a float."""
    try:
        value = load_config("star", [f"{key}=64.0"])
    except ConfigError as problem:
        assert key in str(problem)
        return
    found: Any = value
    for part in key.split("."):
        found = getattr(found, part)
    assert type(found) is int


def test_a_rounding_larger_than_the_solid_is_refused():
    with pytest.raises(ConfigError, match="world.shapes.tile"):
        load_config("star", ["world.shapes.tile={kind: prism, height: 0.2, bevel: 0.3}"])


@pytest.mark.parametrize("position", ["[0, 0, 0]", "[0, 0, 12]"])
def test_cameras_that_cannot_be_aimed_are_refused(position):
    """At its target, or straight above it, where no direction is up."""
    with pytest.raises(ConfigError, match="cameras.named.top"):
        load_config(
            "star",
            [
                f"cameras.named.top={{position: {position}}}",
                "cameras.final=[top]",
                "cameras.jitter=0",
            ],
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "mapping"),
        ("- 1\n", "mapping"),
        ("a: [1\n", "cannot be read as YAML"),
        ("preset: nope\n", "nope.*star"),
        ("preset: 3\n", "preset"),
        ("preset: star\n1: 2\n", "1"),
        ("preset: star\non: 2\n", "unknown key"),
        ("preset: star\nworld: null\n", "world"),
        ("preset: star\nworld: {colors: {no: [1, 2, 3]}}\n", "world.colors"),
        ("preset: mine.yaml\n", "circle"),
    ],
)
def test_wrong_files(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text)
    with pytest.raises(ConfigError, match=expected):
        load_config("mine.yaml")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name, expected in [
        ("nowhere.yaml", "no such file"),
        ("binary.yaml", "cannot be read"),
    ]:
        with pytest.raises(ConfigError, match=f"{name}: .*{expected}"):
            load_config(tmp_path / name)
    with pytest.raises(ConfigError, match="nope.*basic, .*star, trance, .*view"):
        load_config("nope")


nested = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8
)
mappings = st.dictionaries(st.sampled_from("abc"), nested)


@given(mappings, mappings)
def test_merging_keeps_its_arguments_and_prefers_the_second(base, change):
    before = (repr(base), repr(change))
    result = merge(base, change)
    assert (repr(base), repr(change)) == before
    assert set(result) == set(base) | set(change)
    assert merge(result, change) == result
    assert all(result[k] == v for k, v in change.items() if not isinstance(v, dict))
    assert merge(base, {}) == base

"""Reading the configuration of a data set: preset or file, then overrides, then checks."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.errors import ConfigError, TvrError
from star_tvr.scenes.shapes import Shape
from star_tvr.scenes.world import MOST_OBJECTS
from star_tvr.schemas.checks import check

PRESETS = Path(__file__).parent.parent / "scenes" / "presets"

QUALITIES: dict[str, dict[str, Any]] = {
    "draft": {"samples": 8, "adaptive": 0, "denoise": True, "guides": False},
    "standard": {"samples": 96, "adaptive": 0.1, "denoise": True, "guides": False},
    "trance": {"samples": 512, "adaptive": 0, "denoise": False, "guides": False},
}
"""What `render.quality` stands for; docs/rendering.md has what each costs and gives."""

Config = dict[str, Any]
"""A resolved configuration: every key present, fit for `config.schema.json`."""


def preset_names() -> list[str]:
    """The presets that come with the project."""
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def load_config(source: str | Path = "star", overrides: Iterable[str] = ()) -> Config:
    """Resolve a preset name or a YAML file, with `key=value` overrides on top.

    >>> load_config("star", ["image.width=160"])["image"]
    {'width': 160, 'height': 240}

    Raises:
        ConfigError: unknown preset or key, wrong type, or a combination that makes no sense.
    """
    document, name = _read(str(source))
    return _resolve({**document, "preset": name}, overrides, source)


def change_config(config: Config, overrides: Iterable[str], where: str | Path) -> Config:
    """A resolved configuration, such as that of a data set, with `key=value` on top.

    Raises:
        ConfigError: as for `load_config`.
    """
    return _resolve(config, overrides, where)


def _resolve(document: Config, overrides: Iterable[str], source: str | Path) -> Config:
    name = document["preset"]
    for override in overrides:
        change = parse_override(override)
        if "preset" in change:
            raise ConfigError(f"--set {override}: name the preset with --config")
        document = merge(document, _expanded(change, f"--set {override}"))
    document = _without_removed({**document, "preset": name})
    _normalise(document)
    check(document, "config", source, ConfigError)
    check_meaning(document, source)
    return document


def parse_override(text: str) -> Config:
    """`a.b=value` as a nested mapping; the value is read as YAML.

    Raises:
        ConfigError: the text has another form.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {text}: write key=value, for example image.width=160")
    try:
        nested: Any = plain(yaml.safe_load(value), key)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: the value is not valid YAML") from None
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    result: Config = nested
    return result


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> Config:
    """`base` with `change` on top; mappings are merged, everything else is replaced."""
    result = dict(copy.deepcopy(base))
    for key, value in change.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merge(old, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return result


def read_yaml(path: Path) -> Config:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: it is missing, unreadable, or something else.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        reason = " ".join(str(problem).split())
        raise ConfigError(f"{path}: cannot be read as YAML ({reason})") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values")
    return {key: plain(value, f"{path}: {key}") for key, value in _named(document, str(path))}


def plain(value: Any, where: str) -> Any:
    """The value as JSON knows it: names for keys, finite numbers, whole numbers as integers.

    Raises:
        ConfigError: a key is no name or a number not finite; `where` says which.
    """
    if isinstance(value, dict):
        return {key: plain(v, f"{where}.{key}") for key, v in _named(value, where)}
    if isinstance(value, list):
        return [plain(v, where) for v in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"{where}: {value} is not a finite number")
        return int(value) if value.is_integer() else value
    return value


def _named(document: dict[Any, Any], where: str) -> Iterable[tuple[str, Any]]:
    for key in document:
        if not isinstance(key, str):
            raise ConfigError(f"{where}: {key}: unknown key; keys are words (YAML read {key!r})")
    return document.items()


def _read(source: str, seen: tuple[str, ...] = ()) -> tuple[Config, str]:
    """The document with everything it builds on merged in, and the name of its preset."""
    if source in seen:
        raise ConfigError(f"{source}: presets build on each other in a circle")
    if source in preset_names():
        path, name = PRESETS / f"{source}.yaml", source
    elif Path(source).suffix in (".yaml", ".yml"):
        path, name = Path(source), Path(source).stem
    else:
        raise ConfigError(
            f"--config {source}: neither a preset ({', '.join(preset_names())}) nor a .yaml file"
        )
    document = _expanded(read_yaml(path), path)
    parent = document.pop("preset", None if source == "trance" else "trance")
    if parent is None:
        return document, name
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: preset: {parent!r} is not a name")
    base, _ = _read(parent, (*seen, source))
    return merge(base, document), name


def _expanded(document: Config, where: str | Path) -> Config:
    """Put the settings of `render.quality` in its place; settings beside it win over them."""
    block = document.get("render")
    if not isinstance(block, dict) or "quality" not in block:
        return document
    name = block["quality"]
    if not isinstance(name, str) or name not in QUALITIES:
        known = ", ".join(QUALITIES)
        raise ConfigError(f"{where}: render.quality: {name!r} is none; known are {known}")
    rest = {key: value for key, value in block.items() if key != "quality"}
    return {**document, "render": {**QUALITIES[name], **rest}}


def _without_removed(document: Config) -> Config:
    """In the tables of `world`, `lights.lamps` and `cameras.named`, null removes an entry."""
    result = copy.deepcopy(document)
    tables = [("world", k) for k in ("shapes", "sizes", "materials", "colors", "directions")]
    for block, key in [*tables, ("lights", "lamps"), ("cameras", "named")]:
        outer = result.get(block)
        inner = outer.get(key) if isinstance(outer, dict) else None
        if isinstance(outer, dict) and isinstance(inner, dict):
            outer[key] = {k: v for k, v in inner.items() if v is not None}
    return result


def _normalise(document: Config) -> None:
    """A single number where a range is asked for means exactly that number."""
    ranges = [
        ("objects", "total"),
        ("objects", "visible"),
        ("transformations", "count"),
        *(
            (("cameras", "shell"), key)
            for key in ("azimuth", "elevation", "distance", "focal_length", "angle")
        ),
    ]
    for where, key in ranges:
        block: Any = document
        for part in (where,) if isinstance(where, str) else where:
            block = block.get(part, {}) if isinstance(block, dict) else {}
        value = block.get(key) if isinstance(block, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            block[key] = [value, value]


def check_meaning(config: Config, where: str | Path) -> None:
    """What a schema cannot say: ranges in order, names that exist, rules that can be met.

    Raises:
        ConfigError: naming the key.
    """

    def refuse(key: str, why: str) -> NoReturn:
        raise ConfigError(f"{where}: {key}: {why}")

    shell = config["cameras"]["shell"]
    for key, values in [
        ("objects.total", config["objects"]["total"]),
        ("objects.visible", config["objects"]["visible"]),
        ("transformations.count", config["transformations"]["count"]),
        *((f"cameras.shell.{k}", v) for k, v in shell.items() if isinstance(v, list)),
    ]:
        if values is not None and values[0] > values[1]:
            refuse(key, f"{values} is reversed; write [smallest, largest]")
    total, visible = config["objects"]["total"], config["objects"]["visible"]
    if total is not None and visible[0] > total[0]:
        refuse(
            "objects.visible", f"{visible[0]} objects cannot be visible when only {total[0]} exist"
        )
    if visible[1] > MOST_OBJECTS or (total is not None and total[1] > MOST_OBJECTS):
        refuse("objects.total", f"a mask holds at most {MOST_OBJECTS} objects")
    cameras = config["cameras"]
    for key in ("initial", "final"):
        special = {"random"} if key == "initial" else {"random", "same", "orbit"}
        for name in cameras[key]:
            if name not in cameras["named"] and name not in special:
                known = ", ".join([*cameras["named"], *sorted(special)])
                refuse(f"cameras.{key}", f"{name!r} is not a camera; known are {known}")
            if name != "random" and cameras[key].count(name) > 1:
                refuse(f"cameras.{key}", f"{name!r} is named twice")
    if set(cameras["named"]) & {"random", "same", "orbit"}:
        refuse("cameras.named", "a camera cannot be called random, same or orbit")
    world, attributes = config["world"], config["transformations"]["attributes"]
    looks = {"shape": "shapes", "size": "sizes", "color": "colors", "material": "materials"}
    for attribute, table in looks.items():
        if attribute in attributes and len(world[table]) < 2:
            refuse(f"world.{table}", f"needs two entries, or {attribute} cannot change")
    for key, blocks in [
        ("objects.fixed", config["objects"]["fixed"]),
        ("world.constraints", [c["if"] for c in world["constraints"]]),
        ("world.constraints", [c["then"] for c in world["constraints"]]),
    ]:
        for block in blocks:
            for attribute, values in block.items():
                for value in [values] if isinstance(values, str) else values:
                    if value not in world[looks[attribute]]:
                        known = ", ".join(world[looks[attribute]])
                        refuse(key, f"{value!r} is no {attribute}; known are {known}")
    for name, shape in world["shapes"].items():
        shape = Shape(name, **shape)
        if shape.kind == "prism" and shape.bevel > min(
            shape.height / 2, math.cos(math.pi / shape.sides)
        ):
            refuse(f"world.shapes.{name}", f"bevel {shape.bevel} rounds away the whole solid")
    fixed = len(config["objects"]["fixed"])
    if fixed >= visible[0]:
        refuse("objects.visible", f"{visible[0]} leaves no object to change besides {fixed} fixed")
    if world["visible_area"] > world["valid_area"]:
        refuse("world.visible_area", "is larger than world.valid_area")
    pixels = config["image"]["width"] * config["image"]["height"]
    if pixels > 64_000_000:
        refuse("image", f"{pixels} pixels; at most 64,000,000 are possible")
    if config["visibility"]["min_pixels"] > 320 * 240:
        refuse("visibility.min_pixels", "is more than the 320 x 240 image it is counted in")
    _check_cameras(config, refuse)


def _check_cameras(config: Config, refuse: Callable[[str, str], NoReturn]) -> None:
    """Every camera has a direction that is up, and all objects in front of it."""
    cameras, world = config["cameras"], config["world"]
    radius, reach = max(world["sizes"].values()), world["visible_area"]
    corners = np.array([(x, y, 0.0) for x in (-reach, reach) for y in (-reach, reach)])
    for name, block in cameras["named"].items():
        try:
            camera = Camera(tuple(block["position"]), tuple(block.get("target", (0, 0, 0))))
        except TvrError as problem:
            refuse(f"cameras.named.{name}", str(problem))
        depth = camera.project(corners, 1, 1)[:, 2].min()
        if depth < 2 * radius + 2 * cameras["jitter"]:
            refuse(f"cameras.named.{name}", "has objects beside or behind it; move it away")
    shell = cameras["shell"]
    if shell["distance"][0] < math.sqrt(2) * (reach + shell["target_jitter"]) + 2 * radius:
        refuse("cameras.shell.distance", "is so small that objects can be behind the camera")

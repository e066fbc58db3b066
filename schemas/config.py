"""Reading the configuration of a data set: preset or file, then overrides, then checks."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import ConfigError, DataError, ParameterError
from star_tvr.scenes.settings import plain
from star_tvr.schemas.files import read_text

PRESETS = Path(__file__).parent.parent / "scenes" / "presets"

QUALITIES: Mapping[str, Mapping[str, float | bool]] = {
    "draft": {"samples": 8, "adaptive": 0, "denoise": True, "guides": False},
    "standard": {"samples": 96, "adaptive": 0.1, "denoise": True, "guides": False},
    "trance": {"samples": 512, "adaptive": 0, "denoise": False, "guides": False},
}
"""What `render.quality` stands for; docs/rendering.md has what each costs and gives."""

TABLES = (
    *(("world", key) for key in ("shapes", "sizes", "materials", "colors", "directions")),
    ("lights", "lamps"),
    ("cameras", "named"),
)
"""Where a null removes an entry that the preset has."""

Document = dict[str, Any]
"""A configuration as it is written in YAML: not yet checked."""


def preset_names() -> list[str]:
    """The presets that come with the project."""
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def load_config(source: str | Path = "star", overrides: Iterable[str] = ()) -> DatasetConfig:
    """Resolve a preset name or a YAML file, with `key=value` overrides on top.

    >>> load_config("star", ["image.width=160"]).image
    ImageConfig(width=160, height=240)

    Raises:
        ConfigError: unknown preset or key, wrong type, or a combination that makes no sense.
    """
    document, name = _read(str(source))
    return _resolve({**document, "preset": name}, overrides, source)


def change_config(
    config: DatasetConfig, overrides: Iterable[str], where: str | Path
) -> DatasetConfig:
    """A resolved configuration, such as that of a data set, with `key=value` on top.

    Raises:
        ConfigError: as for `load_config`.
    """
    return _resolve(config.to_json(), overrides, where)


def _resolve(document: Document, overrides: Iterable[str], source: str | Path) -> DatasetConfig:
    for override in overrides:
        change = parse_override(override)
        if "preset" in change:
            raise ParameterError("overrides", "name the preset with config", override)
        document = merge(document, _expanded(change, override))
    return DatasetConfig.parse(_without_removed(document), str(source))


def parse_override(text: str) -> Document:
    """`a.b=value` as a nested mapping; the value is read as YAML.

    Raises:
        ConfigError: the text has another form.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ParameterError("overrides", "write key=value, for example image.width=160", text)
    try:
        nested = parse_yaml(value, key)
    except ConfigError as problem:
        raise ParameterError("overrides", str(problem), text) from None
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    result: Document = nested
    return result


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> Document:
    """`base` with `change` on top; mappings are merged, everything else is replaced."""
    result = dict(copy.deepcopy(base))
    for key, value in change.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merge(old, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return result


def read_yaml(path: Path) -> Document:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: it is missing, unreadable, or something else.
    """
    try:
        text = read_text(path, LONGEST_YAML)
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    document = parse_yaml(text, str(path))
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values")
    return document


LONGEST_YAML = 1_000_000
"""Bytes of a file of YAML."""

MOST_VALUES = 100_000
"""Values in a document of YAML, those that aliases repeat counted each time."""

DEEPEST = 50
"""Blocks within blocks of a document of YAML."""


class _Loader(yaml.SafeLoader):
    """Names the line of a value that cannot be built, such as 2026-13-45 or `!!bool maybe`."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
            what = f"{node.tag.rpartition(':')[2]}: {problem}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None


def parse_yaml(text: str, where: str) -> Any:
    """What YAML says, in the form of JSON: keys are words, numbers finite, 64.0 is 64.

    Args:
        where: the file that it is from, or the key that it is the value of, for errors.

    Raises:
        ConfigError: it is no YAML, or something in it has no such form; names the line or the key.
    """
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - it is a safe one
    except (yaml.YAMLError, RecursionError) as problem:
        reason = " ".join(str(problem).split())
        raise ConfigError(f"{where}: cannot be read as YAML ({reason})") from None
    return _json_like(document, where, (), count(1))


def _json_like(value: object, where: str, path: tuple[str, ...], counter: Iterator[int]) -> Any:
    name = f"{where}: {'.'.join(path)}" if path else where
    if next(counter) > MOST_VALUES or len(path) > DEEPEST:
        raise ConfigError(f"{where}: is too large or too deep for a configuration")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"{name}: {key}: unknown key; keys are words (YAML read {key!r})")
        return {key: _json_like(v, where, (*path, key), counter) for key, v in value.items()}
    if isinstance(value, list):
        return [_json_like(v, where, (*path, str(k)), counter) for k, v in enumerate(value)]
    if value is not None and not isinstance(value, str | bool | int | float):
        raise ConfigError(f"{name}: {value!r} is no value of a configuration; put it in quotes")
    try:
        return plain(value)
    except ValueError as problem:
        raise ConfigError(f"{name}: {problem}") from None


def _read(source: str, seen: tuple[str, ...] = ()) -> tuple[Document, str]:
    """The document with everything it builds on merged in, and the name of its preset."""
    if source in seen:
        raise ConfigError(f"{source}: presets build on each other in a circle")
    if source in preset_names():
        path, name = PRESETS / f"{source}.yaml", source
        document = _expanded(copy.deepcopy(_preset(source)), path)
    elif Path(source).suffix in (".yaml", ".yml"):
        path, name = Path(source), Path(source).stem
        document = _expanded(read_yaml(path), path)
    else:
        known = ", ".join(preset_names())
        raise ParameterError("config", f"neither a preset ({known}) nor a .yaml file", source)
    parent = document.pop("preset", None if source == "trance" else "trance")
    if parent is None:
        return document, name
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: preset: {parent!r} is not a name")
    base, _ = _read(parent, (*seen, source))
    return merge(base, document), name


@cache
def _preset(name: str) -> Document:
    """What the file of a preset says, which nobody may change."""
    return read_yaml(PRESETS / f"{name}.yaml")


def _expanded(document: Document, where: str | Path) -> Document:
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


def _without_removed(document: Document) -> Document:
    """The document without the entries of tables that are null."""
    result = copy.deepcopy(document)
    for block, key in TABLES:
        outer = result.get(block)
        inner = outer.get(key) if isinstance(outer, dict) else None
        if isinstance(outer, dict) and isinstance(inner, dict):
            outer[key] = {k: v for k, v in inner.items() if v is not None}
    return result

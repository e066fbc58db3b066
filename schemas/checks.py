"""Checking documents against the JSON Schemas, with messages that name file, field and cure."""

import difflib
import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry, Resource

from star_tvr.scenes.errors import DataError, TvrError
from star_tvr.schemas.files import LONGEST, open_file, read_text

FOLDER = Path(__file__).parent


@cache
def _registry() -> Registry[Any]:
    documents = {p.name: json.loads(p.read_text()) for p in sorted(FOLDER.glob("*.schema.json"))}
    return Registry().with_resources(
        (name, Resource.from_contents(document)) for name, document in documents.items()
    )


@cache
def _validator(schema: str) -> Draft202012Validator:
    registry = _registry()
    return Draft202012Validator(registry.contents(f"{schema}.schema.json"), registry=registry)


@cache
def _fast_validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    documents = [(name, _registry().contents(name)) for name in _registry()]
    return jsonschema_rs.Draft202012Validator(
        _registry().contents(f"{schema}.schema.json"), registry=jsonschema_rs.Registry(documents)
    )


def check(document: Any, schema: str, where: str | Path, error: type[TvrError] = DataError) -> None:
    """Raise `error`, naming `where` and the field, unless `document` fits the schema.

    jsonschema-rs, a hundred times as fast, passes what is right; what it does not pass is judged,
    and put into words, by jsonschema.

    Args:
        document: parsed JSON or YAML.
        schema: the name of a file in this folder without `.schema.json`.
        where: the file (and line) the document came from.
        error: what to raise.
    """
    fast, is_json = _fast_validator(schema), True
    try:
        if fast.is_valid(document):
            return
    except ValueError:  # keys or values that JSON does not have, as YAML can
        is_json = False
    problem = best_match(_validator(schema).iter_errors(document))
    if problem is not None:
        raise error(f"{where}: {describe(problem)}")
    if is_json:  # to Python, unlike JSON Schema, `$` stands before a line end at the end, too
        found = next(iter(fast.iter_errors(document)))
        path = ".".join(map(str, found.instance_path))
        raise error(f"{where}: {path + ': ' if path else ''}{found.message[:200]}")


def describe(problem: ValidationError) -> str:
    """One sentence for one violation: the path of the field, its value, what was expected."""
    path = ".".join(str(p) for p in problem.absolute_path)
    if problem.validator == "additionalProperties":
        schema: Any = problem.schema
        instance: Any = problem.instance
        known = list(schema.get("properties", {}))
        unknown = sorted(map(str, set(instance) - set(known)))[0]
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
        return f"{path + '.' if path else ''}{unknown}: unknown key; {hint}"
    message = problem.message if len(problem.message) < 200 else problem.message[:200] + " …"
    return f"{path}: {message}" if path else message


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        DataError: it is missing, unreadable, no JSON, or holds NaN or infinity.
    """
    return parse_json(read_text(path), path)


MOST_DIGITS = 20
"""Digits of a whole number: those of 2^64."""


def parse_json(text: str, where: str | Path) -> Any:
    """Parse JSON strictly.

    Raises:
        DataError: the text is no JSON, or holds NaN, infinity, a number of more than 20 digits, or
            a key twice.
    """

    def refuse(constant: str) -> float:
        raise DataError(f"{where}: holds {constant}, which JSON does not allow")

    def finite(digits: str) -> float:
        return number if math.isfinite(number := float(digits)) else refuse(digits[:30])

    def whole(digits: str) -> int:
        if len(digits) > MOST_DIGITS + 1:
            raise DataError(f"{where}: holds a number of {len(digits)} digits")
        return int(digits)

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{where}: the key {twice[:60]!r} is there twice")
        return found

    try:
        return json.loads(
            text,
            parse_constant=refuse,
            parse_float=finite,
            parse_int=whole,
            object_pairs_hook=distinct,
        )
    except (json.JSONDecodeError, RecursionError) as problem:
        raise DataError(f"{where}: is not valid JSON ({problem})") from None


def read_jsonl(path: Path, schema: str, root: Path | None = None) -> list[Any]:
    """All lines of a JSON Lines file, each checked against a schema; blank lines are skipped.

    Args:
        root: as for `open_file`.

    Raises:
        DataError: the file cannot be read, or a line is not what the schema asks for.
    """
    return list(iter_jsonl(path, schema, root))


def iter_jsonl(path: Path, schema: str, root: Path | None = None) -> Iterator[Any]:
    """As `read_jsonl`, one line at a time."""
    try:
        with open_file(path, root) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    document = parse_json(line.decode("utf-8"), where)
                    check(document, schema, where)
                    yield document
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: cannot be read ({problem})") from None

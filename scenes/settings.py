"""Blocks of a configuration as typed values: what every model of one has in common.

A key of a configuration is one attribute of a model: its type, range, default, meaning and check
stand together. The JSON Schemas and docs/configuration.md are generated from the models.
"""

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
)

from star_tvr.scenes.errors import ConfigError

T = TypeVar("T")

Flag = StrictBool
Integer = StrictInt
Number = StrictFloat
Count = Annotated[StrictInt, Field(ge=1)]
NonNegative = Annotated[StrictFloat, Field(ge=0, le=1e9)]
Positive = Annotated[StrictFloat, Field(gt=0, le=1e9)]
Share = Annotated[StrictFloat, Field(ge=0, le=1)]
Coordinate = Annotated[StrictFloat, Field(ge=-1e6, le=1e6)]
Vector = tuple[Coordinate, Coordinate, Coordinate]
LinearColor = tuple[Share, Share, Share]
Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_-]*$")]


def _both_ends(value: object) -> object:
    """A single number where a range is asked for means exactly that number."""
    single = isinstance(value, int | float) and not isinstance(value, bool)
    return [value, value] if single else value


def _in_order(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"{plain(ends)} is reversed; write [smallest, largest]")
    return ends


Range = Annotated[tuple[T, T], BeforeValidator(_both_ends), AfterValidator(_in_order)]
"""[smallest, largest], or one number for both."""


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values, each of which must be there once only."""
    twice = [v for k, v in enumerate(values) if v in values[:k]]
    if twice:
        raise ValueError(f"{twice[0]!r} is named twice")
    return values


Distinct = Annotated[tuple[T, ...], AfterValidator(distinct)]
"""A list in which nothing is there twice."""
Some = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(distinct)]
"""A list that is not empty, in which nothing is there twice."""


class Settings(BaseModel):
    """A block of a configuration. It does not change; keys that it does not know are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @classmethod
    def parse(cls, document: object, where: str) -> Self:
        """Check a document, as it is in YAML or JSON.

        Args:
            where: the file it is from, for errors.

        Raises:
            ConfigError: one line that names file, key, value and what is wrong with it.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as problem:
            raise ConfigError(f"{where}: {_describe(cls, problem)}") from None

    def to_json(self) -> dict[str, Any]:
        """As it is stored: every key, whole numbers without a point."""
        document: dict[str, Any] = plain(self.model_dump(mode="json", by_alias=True))
        return document


class KeyProblem(ValueError):
    """What a model's own check found wrong with one key of it."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")


def refuse(key: str, why: str) -> NoReturn:
    """Refuse the value of a key of the model that is being checked."""
    raise KeyProblem(key, why)


def plain(value: Any) -> Any:
    """A value in the form that JSON documents have: floats that are whole numbers as integers.

    Raises:
        ValueError: a number is not finite.
    """
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        return int(value) if value.is_integer() else value
    return value


TYPES = {
    "bool_type": "boolean",
    "dict_type": "object",
    "float_type": "number",
    "int_type": "integer",
    "list_type": "array",
    "model_type": "object",
    "string_type": "string",
    "tuple_type": "array",
}
"""The names that JSON Schema has for what pydantic's types of errors miss."""

BOUNDS = {
    "greater_than_equal": ("ge", "is less than the minimum of"),
    "greater_than": ("gt", "is not greater than"),
    "less_than_equal": ("le", "is greater than the maximum of"),
    "less_than": ("lt", "is not less than"),
}


def _describe(model: type[BaseModel], problem: ValidationError) -> str:
    """One sentence for what is wrong: the key, its value, and what was expected."""
    errors = problem.errors(include_url=False)
    unknown = [error for error in errors if error["type"] == "extra_forbidden"]
    error = (unknown or errors)[0]
    path = [str(part) for part in error["loc"] if part != "[key]"]
    key, kind, value, context = ".".join(path), error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{key}: unknown key; {_nearest(path[-1], _keys(model, path[:-1]))}"
    if kind == "missing":
        return f"{key}: is missing"
    if kind == "value_error":
        cause = context["error"]
        joint = "." if isinstance(cause, KeyProblem) and key else ": " if key else ""
        return f"{key}{joint}{cause}"
    shown = repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:200]} …"
    if kind in TYPES:
        return f"{key}: {shown} is not of type {TYPES[kind]!r}"
    if kind in BOUNDS:
        bound, words = BOUNDS[kind]
        return f"{key}: {shown} {words} {plain(context[bound])}"
    if kind == "literal_error":
        return f"{key}: {shown} is not one of {context['expected']}"
    return f"{key}: {shown}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _nearest(unknown: str, known: list[str]) -> str:
    near = difflib.get_close_matches(unknown, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of the block at a path."""
    for part in path:
        fields = {f.alias or name: f for name, f in model.model_fields.items()}
        if part in fields:  # otherwise a name in a table or a place in a list: the same annotation
            model = _block(fields[part].annotation) or model
    return [f.alias or name for name, f in model.model_fields.items()]


def _block(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `dict[str, Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_block(part) for part in get_args(annotation))
    return next((model for model in found if model is not None), None)

"""The world of a data set as values: what exists, how big it is, where it may stand.

This is the `world` block of a configuration; a new color, shape, size or material is a line of
YAML.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from star_tvr.scenes.settings import (
    Count,
    Name,
    NonNegative,
    Number,
    Positive,
    Settings,
    Share,
    Some,
    refuse,
)
from star_tvr.scenes.shapes import Shape

Appearance = Literal["color", "shape", "size", "material"]
Attribute = Literal["color", "shape", "size", "material", "position"]

APPEARANCE: tuple[str, ...] = get_args(Appearance)
ATTRIBUTES: tuple[str, ...] = get_args(Attribute)

MOST_OBJECTS = 254
"""Objects of a scene: a mask holds their index + 1 in 8 bits, and 255 is left free."""

Channel = Annotated[int, Field(strict=True, ge=0, le=255)]
Direction = Literal[-1, 0, 1]


class Material(Settings):
    """A surface, as inputs of Blender's Principled shader; without a key the shader's own value."""

    roughness: Share | None = None
    """Roughness: 0 is a mirror, 1 is matte."""
    specular: Share | None = None
    """Specular IOR level: strength of the reflection of what is no metal."""
    metallic: Share | None = None
    """Metallic: 1 for metal."""
    transmission: Share | None = None
    """Share of light that passes through: 1 for glass."""
    ior: Annotated[Number, Field(ge=1, le=3)] | None = None
    """Index of refraction."""
    tint: Share | None = None
    """How far the color is lightened: 0 is the palette, 1 is white; by default 0.35 of
    `transmission`."""
    pattern: Literal["checker", "stripes"] | None = None
    """What is painted on it, in the color and a darker shade of it: a checkerboard, or rings."""


class Constraint(Settings):
    """Objects with one of the values of every attribute in `if` must fit `then` likewise.

    >>> cubes = Constraint.model_validate({"if": {"shape": ["cube"]}, "then": {"color": ["gray"]}})
    >>> cubes.allows({"shape": "cube", "color": "red"})
    False
    """

    given: Annotated[
        dict[Appearance, Annotated[tuple[str, ...], Field(min_length=1)]],
        Field(alias="if", min_length=1),
    ]
    """Values, by attribute, of the objects that it is about."""
    required: Annotated[
        dict[Appearance, Annotated[tuple[str, ...], Field(min_length=1)]],
        Field(alias="then", min_length=1),
    ]
    """Values, by attribute, that these objects must have."""

    def allows(self, attributes: Mapping[str, str]) -> bool:
        """Whether an object may have these attributes."""
        if not all(attributes[k] in v for k, v in self.given.items()):
            return True
        return all(attributes[k] in v for k, v in self.required.items())


class World(Settings):
    """What objects can be and where they can be."""

    shapes: Annotated[dict[Name, Shape], Field(min_length=1)]
    """Solids by name."""
    sizes: Annotated[dict[Name, Positive], Field(min_length=1)]
    """Horizontal radius by name, Blender units."""
    materials: Annotated[dict[Name, Material], Field(min_length=1)]
    """Surfaces by name, read by the renderer only."""
    colors: Annotated[dict[Name, tuple[Channel, Channel, Channel]], Field(min_length=1)]
    """sRGB, 0 to 255, by name."""
    grid: Positive = 0.15
    """Spacing of the positions, Blender units."""
    directions: Annotated[dict[Name, tuple[Direction, Direction]], Field(min_length=1)]
    """What each direction of a move does to (x, y), in steps. In the presets +x is front, towards
    the center camera, and +y is right, as that camera sees them."""
    step: Positive = 1.5
    """Length of one step of a move along an axis, Blender units."""
    steps: Some[Count] = (1, 2)
    """How many steps a move may take."""
    gap: NonNegative = 0.15
    """Least free space between two objects on the ground, Blender units."""
    visible_area: Positive = 3.0
    """Objects with abs x, abs y up to this are rendered, Blender units."""
    valid_area: Positive = 6.0
    """Objects may stand at abs x, abs y up to this, Blender units."""
    constraints: tuple[Constraint, ...] = ()
    """Combinations of attributes that every object keeps to in every state, such as
    `{if: {shape: [cube]}, then: {color: [gray, blue]}}` (CLEVR's CoGenT conditions)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.visible_area > self.valid_area:
            refuse("visible_area", f"{self.visible_area:g} is larger than valid_area")
        for constraint in self.constraints:
            for values in (constraint.given, constraint.required):
                self.check_values("constraints", values)
        return self

    def check_values(self, key: str, values: Mapping[Appearance, str | tuple[str, ...]]) -> None:
        """Make sure that values of attributes exist; `key` is where they are named."""
        for attribute, named in values.items():
            for value in (named,) if isinstance(named, str) else named:
                known = self.values(attribute)
                if value not in known:
                    refuse(key, f"{value!r} is no {attribute}; known are {', '.join(known)}")

    def allows(self, attributes: Mapping[str, str]) -> bool:
        """Whether an object may have these attributes at once."""
        return all(c.allows(attributes) for c in self.constraints)

    def values(self, attribute: str) -> tuple[str, ...]:
        """Every value that a transformation may give to `attribute`, in vocabulary order.

        >>> from star_tvr.schemas.config import load_config
        >>> load_config("star").world.values("size")
        ('small', 'medium', 'large')
        """
        if attribute == "position":
            return tuple(f"{d}.{n}" for d in self.directions for n in self.steps)
        table: Mapping[str, object] = getattr(self, f"{attribute}s")
        return tuple(table)

    def in_visible_area(self, x: float, y: float) -> bool:
        """Whether an object at (x, y) is rendered."""
        return max(abs(x), abs(y)) <= self.visible_area + 1e-9

    def in_valid_area(self, x: float, y: float) -> bool:
        """Whether an object may stand at (x, y) at all."""
        return max(abs(x), abs(y)) <= self.valid_area + 1e-9

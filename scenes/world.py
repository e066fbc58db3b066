"""The world of a data set as values: what exists, how big it is, where it may stand.

Everything comes from the `world` block of a configuration; a new colour, shape, size or
material is a line of YAML.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from star_tvr.scenes.shapes import Shape

APPEARANCE = ("color", "shape", "size", "material")
ATTRIBUTES = (*APPEARANCE, "position")

MOST_OBJECTS = 254
"""Objects of a scene: a mask holds their index + 1 in 8 bits, and 255 is left free."""


@dataclass(frozen=True)
class Constraint:
    """Objects with one of the values of every attribute in `given` must fit `required` likewise.

    >>> cubes = Constraint({"shape": ("cube",)}, {"color": ("gray", "blue")})
    >>> cubes.allows({"shape": "cube", "color": "red"})
    False
    """

    given: Mapping[str, tuple[str, ...]]
    required: Mapping[str, tuple[str, ...]]

    @classmethod
    def from_config(cls, block: Mapping[str, Any]) -> "Constraint":
        """Read `{if: {attribute: [values]}, then: {attribute: [values]}}`."""
        given, required = ({k: tuple(v) for k, v in block[key].items()} for key in ("if", "then"))
        return cls(given, required)

    def allows(self, attributes: Mapping[str, str]) -> bool:
        """Whether an object may have these attributes."""
        if not all(attributes[k] in v for k, v in self.given.items()):
            return True
        return all(attributes[k] in v for k, v in self.required.items())


@dataclass(frozen=True)
class World:
    """What objects can be and where they can be.

    Attributes:
        shapes: solids by name.
        sizes: horizontal radius in Blender units by name.
        colors: sRGB 0-255 by name.
        materials: surface parameters by name, read by the renderer only.
        grid: spacing of the positions, in Blender units.
        directions: what each direction of a move does to (x, y), in steps. In the presets +x is
            front, towards the center camera, and +y is right, as that camera sees them.
        step: length of one step of a move along an axis, in Blender units.
        steps: how many steps a move may take.
        gap: least free space between two objects on the ground, in Blender units.
        visible_area: objects with abs x, abs y up to this are rendered.
        valid_area: objects may stand at abs x, abs y up to this.
        constraints: combinations of attributes that every object keeps to in every state.
    """

    shapes: Mapping[str, Shape]
    sizes: Mapping[str, float]
    colors: Mapping[str, tuple[int, int, int]]
    materials: Mapping[str, Mapping[str, float]]
    grid: float
    directions: Mapping[str, tuple[int, int]]
    step: float
    steps: tuple[int, ...]
    gap: float
    visible_area: float
    valid_area: float
    constraints: tuple["Constraint", ...] = ()

    @classmethod
    def from_config(cls, block: Mapping[str, Any]) -> "World":
        """Build the world from the (already validated) `world` block of a configuration."""
        return cls(
            shapes={k: Shape(name=k, **v) for k, v in block["shapes"].items()},
            sizes={k: float(v) for k, v in block["sizes"].items()},
            colors={k: (int(v[0]), int(v[1]), int(v[2])) for k, v in block["colors"].items()},
            materials=block["materials"],
            grid=block["grid"],
            directions={k: (int(v[0]), int(v[1])) for k, v in block["directions"].items()},
            step=block["step"],
            steps=tuple(block["steps"]),
            gap=block["gap"],
            visible_area=block["visible_area"],
            valid_area=block["valid_area"],
            constraints=tuple(Constraint.from_config(c) for c in block["constraints"]),
        )

    def allows(self, attributes: Mapping[str, str]) -> bool:
        """Whether an object may have these attributes at once (CLEVR's CoGenT conditions)."""
        return all(c.allows(attributes) for c in self.constraints)

    def values(self, attribute: str) -> tuple[str, ...]:
        """Every value that a transformation may give to `attribute`, in vocabulary order.

        >>> from star_tvr.schemas.config import load_config
        >>> World.from_config(load_config("star")["world"]).values("size")
        ('small', 'medium', 'large')
        """
        if attribute == "position":
            return tuple(f"{d}.{n}" for d in self.directions for n in self.steps)
        table: Mapping[str, Any] = {
            "color": self.colors,
            "shape": self.shapes,
            "size": self.sizes,
            "material": self.materials,
        }[attribute]
        return tuple(table)

    def in_visible_area(self, x: float, y: float) -> bool:
        """Whether an object at (x, y) is rendered."""
        return max(abs(x), abs(y)) <= self.visible_area + 1e-9

    def in_valid_area(self, x: float, y: float) -> bool:
        """Whether an object may stand at (x, y) at all."""
        return max(abs(x), abs(y)) <= self.valid_area + 1e-9

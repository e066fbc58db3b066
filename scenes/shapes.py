"""The solids that objects are made of, as numbers.

Every solid is the convex hull of equal balls: a sphere is one ball, a rounded cube is eight of
them at its inner corners, a cylinder two rings. The renderer asks for a `mesh`, the visibility
test for the `balls`; both describe the same surface, so a new shape is a few numbers in a
preset and never code.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from star_tvr.scenes.settings import Integer, Number, Positive, Settings, Share, refuse

Floats = NDArray[np.float64]

BEVEL_SEGMENTS = 9
ROUND_SIDES = 24
"""Prisms with at least this many sides are shaded as round, the others keep flat faces."""


class Shape(Settings):
    """A solid of horizontal radius 1, centred at the origin, standing along z."""

    kind: Literal["sphere", "prism"]
    """`sphere`, or `prism`: a regular polygon extruded upwards."""
    sides: Annotated[Integer, Field(ge=3, le=256)] = 4
    """Number of sides of a prism's base: 4 is a box, 64 a cylinder."""
    height: Positive = 2.0
    """Full height of a prism, in units of the horizontal radius."""
    top: Share = 1.0
    """Radius of a prism's top face over that of its base: 1 is a prism, 0 a cone."""
    bevel: Annotated[Number, Field(ge=0.005, le=0.3)] = 0.05
    """Radius of the rounding of every edge of a prism, in units of the horizontal radius."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        most = min(self.height / 2, math.cos(math.pi / self.sides))
        if self.kind == "prism" and self.bevel > most:
            refuse("bevel", f"{self.bevel} rounds away the whole solid; at most {most:.3g}")
        return self

    @property
    def half_height(self) -> float:
        """Height of the centre above the ground, in units of the horizontal radius."""
        return 1.0 if self.kind == "sphere" else self.height / 2


@dataclass(frozen=True)
class Mesh:
    """A closed surface.

    Attributes:
        vertices, normals: the normals are unit vectors that point outward. Shapes: (n, 3).
        faces: vertex indices, counter-clockwise seen from outside.
    """

    vertices: Floats
    normals: Floats
    faces: list[tuple[int, ...]]


def _inner_rings(shape: Shape) -> tuple[float, float, float, float]:
    """Radii and heights (r_bottom, z_bottom, r_top, z_top) of the ball centres of a prism.

    Radii are those of corners. The faces stay where they would be without the rounding, so the
    rounded corners lie slightly inside radius 1.
    """
    b, half = shape.bevel, shape.height / 2
    inset = b / np.cos(np.pi / shape.sides)
    return 1.0 - inset, -half + b, max(shape.top - inset, 0.0), half - b


@lru_cache
def balls(shape: Shape) -> tuple[Floats, float]:
    """Centres (n, 3) and common radius of the balls whose convex hull is the solid."""
    if shape.kind == "sphere":
        return np.zeros((1, 3)), 1.0
    r0, z0, r1, z1 = _inner_rings(shape)
    angle = 2 * np.pi * (np.arange(shape.sides) + 0.5) / shape.sides
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.column_stack([circle * r0, np.full(shape.sides, z0)])
    if r1 == 0:
        return np.vstack([lower, [[0.0, 0.0, z1]]]), shape.bevel
    return np.vstack([lower, np.column_stack([circle * r1, np.full(shape.sides, z1)])]), shape.bevel


@lru_cache
def mesh(shape: Shape) -> Mesh:
    """The surface of the solid with exact normals, ready for smooth shading."""
    return _sphere_mesh() if shape.kind == "sphere" else _prism_mesh(shape)


def _sphere_mesh(rings: int = 48, columns: int = 96) -> Mesh:
    polar = np.pi * np.arange(1, rings) / rings
    azimuth = 2 * np.pi * np.arange(columns) / columns
    grid = np.stack(
        [
            np.sin(polar)[:, None] * np.cos(azimuth),
            np.sin(polar)[:, None] * np.sin(azimuth),
            np.repeat(np.cos(polar)[:, None], columns, axis=1),
        ],
        axis=-1,
    ).reshape(-1, 3)
    points = np.vstack([grid, [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]])
    north, south = len(points) - 2, len(points) - 1
    faces: list[tuple[int, ...]] = []
    last = (rings - 2) * columns
    for c in range(columns):
        d = (c + 1) % columns
        faces.append((north, c, d))
        faces.append((south, last + d, last + c))
        for r in range(rings - 2):
            a, b = r * columns, (r + 1) * columns
            faces.append((a + c, b + c, b + d, a + d))
    return Mesh(points, points.copy(), faces)


def _prism_mesh(shape: Shape) -> Mesh:
    r0, z0, r1, z1 = _inner_rings(shape)
    n, b = shape.sides, shape.bevel
    corner = 2 * np.pi * (np.arange(n) + 0.5) / n
    if n >= ROUND_SIDES:
        centre_angle = normal_angle = corner
        apothem = 1.0
    else:
        spread = np.pi / n * np.linspace(-1, 1, BEVEL_SEGMENTS)
        centre_angle = np.repeat(corner, BEVEL_SEGMENTS)
        normal_angle = (corner[:, None] + spread).ravel()
        apothem = np.cos(np.pi / n)
    tilt = np.arctan2((r0 - r1) * apothem, z1 - z0)  # how far the sides lean inwards
    lower = np.linspace(-np.pi / 2, tilt, BEVEL_SEGMENTS)
    upper = np.linspace(tilt, np.pi / 2, BEVEL_SEGMENTS)
    radius = np.concatenate([np.full(len(lower), r0), np.full(len(upper), r1)])
    height = np.concatenate([np.full(len(lower), z0), np.full(len(upper), z1)])
    elevation = np.concatenate([lower, upper])
    normals = np.stack(
        [
            np.cos(elevation)[:, None] * np.cos(normal_angle),
            np.cos(elevation)[:, None] * np.sin(normal_angle),
            np.repeat(np.sin(elevation)[:, None], len(normal_angle), axis=1),
        ],
        axis=-1,
    )
    centres = np.stack(
        [
            radius[:, None] * np.cos(centre_angle),
            radius[:, None] * np.sin(centre_angle),
            np.repeat(height[:, None], len(centre_angle), axis=1),
        ],
        axis=-1,
    )
    rows, columns = elevation.size, normal_angle.size
    index = np.arange(rows * columns).reshape(rows, columns)
    following = np.roll(index, -1, axis=1)
    faces: list[tuple[int, ...]] = [
        (int(index[r, c]), int(following[r, c]), int(following[r + 1, c]), int(index[r + 1, c]))
        for r in range(rows - 1)
        for c in range(columns)
    ]
    faces.append(tuple(int(k) for k in index[0, ::-1]))
    if r1 > 0:
        faces.append(tuple(int(k) for k in index[-1]))
    return Mesh((centres + b * normals).reshape(-1, 3), normals.reshape(-1, 3), faces)

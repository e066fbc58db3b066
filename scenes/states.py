"""Objects and states: an immutable picture of the scene at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any

from star_tvr.scenes.world import World


def on_grid(value: float) -> float:
    """A coordinate in the one form used everywhere: 6 decimals, no negative zero."""
    return round(value, 6) + 0.0


@dataclass(frozen=True)
class SceneObject:
    """One object. Positions are in Blender units, the rotation about z in radians."""

    index: int
    shape: str
    size: str
    color: str
    material: str
    x: float
    y: float
    rotation: float

    def radius(self, world: World) -> float:
        """Horizontal bounding radius in Blender units."""
        return world.sizes[self.size]

    def center(self, world: World) -> tuple[float, float, float]:
        """The middle of the solid; it stands on the ground z = 0."""
        height = world.shapes[self.shape].half_height * self.radius(world)
        return (self.x, self.y, on_grid(height))

    def visible(self, world: World) -> bool:
        """Whether it stands in the visible area, that is, whether it is rendered at all."""
        return world.in_visible_area(self.x, self.y)

    def to_json(self, world: World) -> dict[str, Any]:
        """The form stored in `sample.json`."""
        return {
            "index": self.index,
            "shape": self.shape,
            "size": self.size,
            "color": self.color,
            "material": self.material,
            "position": list(self.center(world)),
            "rotation": self.rotation,
            "visible": self.visible(world),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SceneObject":
        """Read the form stored in `sample.json`; height and visibility are derived again.

        Equal words are one string, which saves a quarter of what the plans of a data set take.
        """
        x, y, _ = data["position"]
        return cls(
            index=data["index"],
            shape=intern(data["shape"]),
            size=intern(data["size"]),
            color=intern(data["color"]),
            material=intern(data["material"]),
            x=x,
            y=y,
            rotation=data["rotation"],
        )


State = tuple[SceneObject, ...]
"""All objects of a scene, in the order of their index."""


def visible_objects(state: State, world: World) -> State:
    """The objects that are rendered."""
    return tuple(o for o in state if o.visible(world))

"""A plan: everything about a sample that is decided before a pixel is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.states import State
from star_tvr.scenes.transformations import Transformation, replay
from star_tvr.scenes.world import World


@dataclass(frozen=True)
class Light:
    """A square area light that faces the origin.

    Attributes:
        position: Blender units.
        color: linear RGB, 0 to 1.
        size: edge length, Blender units.
        power: watts.
    """

    position: tuple[float, float, float]
    color: tuple[float, float, float]
    size: float
    power: float


@dataclass(frozen=True)
class Plan:
    """What a sample shows.

    Attributes:
        id: the sample's number, at least six digits.
        seed: the seed its random choices came from.
        preset: name of the configuration.
        cameras: all cameras of the sample by name.
        views: (state, camera name) of every image, in the order of rendering.
        draw: how many plans of this number were passed over, see `Sampler.plan`.
        decision: of a curriculum, by which the draw was chosen; None without one.
    """

    id: str
    seed: int
    preset: str
    cameras: Mapping[str, Camera]
    views: tuple[tuple[str, str], ...]
    lights: Mapping[str, Light]
    initial: State
    final: State
    transformations: tuple[Transformation, ...]
    draw: int = 0
    decision: int | None = None

    def state(self, name: str, world: World) -> State:
        """The state called `initial`, `final`, or `step-K` after K transformations."""
        ends = {"initial": self.initial, "final": self.final}
        return ends[name] if name in ends else self.states(world)[int(name.split("-")[1])]

    def states(self, world: World) -> tuple[State, ...]:
        """The states that the transformations lead through, one more than there are of them."""
        return replay(self.initial, self.transformations, world)

"""Pairs of images of a sample: how far apart their views are and how hard they are."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from star_tvr.scenes.cameras import angle_between
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import REFERENCE_PIXELS
from star_tvr.scenes.world import APPEARANCE, World
from star_tvr.schemas.records import Pair, Sample


class RatedPair(NamedTuple):
    """A pair, the angle between its views in degrees, and its difficulty from 0 to 1."""

    pair: Pair
    angle: float
    difficulty: float


@dataclass(frozen=True)
class Scene:
    """What dividing needs to know about a sample.

    Attributes:
        objects: number of objects visible at the start.
        transformations: number of transformations.
        attributes: those that change.
        appearances: values of `APPEARANCE` of every object in every state, also of those that are
            not visible.
        pairs: every combination of an initial and a final image.
    """

    id: str
    objects: int
    transformations: int
    attributes: frozenset[str]
    appearances: frozenset[tuple[str, ...]]
    pairs: tuple[RatedPair, ...]

    @property
    def labels(self) -> tuple[tuple[str, int | str], ...]:
        """What every split should have its share of."""
        counts = (("objects", self.objects), ("transformations", self.transformations))
        return (*counts, *(("attribute", a) for a in sorted(self.attributes)))


def scene_of(sample: Sample, world: World) -> Scene:
    """What dividing needs to know about a sample."""
    plan = sample.plan
    appearances = {tuple(getattr(o, a) for a in APPEARANCE) for s in plan.states(world) for o in s}
    return Scene(
        id=sample.id,
        objects=len(visible_objects(plan.initial, world)),
        transformations=len(plan.transformations),
        attributes=frozenset(t.attribute for t in plan.transformations),
        appearances=frozenset(appearances),
        pairs=tuple(
            RatedPair(pair, angle_of(sample, pair), difficulty(sample, pair, world))
            for pair in sample.pairs()
        ),
    )


def angle_of(sample: Sample, pair: Pair) -> float:
    """Degrees between the two views of a pair, 3 decimals."""
    cameras = sample.plan.cameras
    return round(angle_between(cameras[pair.initial], cameras[pair.final]), 3)


MANY_OBJECTS, MANY_TRANSFORMATIONS = 10, 4
LARGE, SMALL = 3000, 150
"""Pixels at 320 x 240: of a large object in full view; of the least that may show (TRANCE)."""


def difficulty(sample: Sample, pair: Pair, world: World) -> float:
    """How hard a pair is, from 0 to 1: the mean of four ingredients from 0 to 1. 4 decimals.

    Number of visible objects (1 to 10) and of transformations (1 to 4), both linear; the fewest
    visible pixels of a transformed object in the two images (3,000 to 150 at 320 x 240), on a
    logarithmic scale; the sine of half the angle between the views.
    """
    plan = sample.plan
    changed = {t.object for t in plan.transformations}
    images = [sample.image("initial", pair.initial), sample.image("final", pair.final)]
    shown = [
        view.pixels * REFERENCE_PIXELS / (image.width * image.height)
        for image in images
        for view in image.objects
        if view.index in changed and view.pixels
    ]
    smallest = min(shown, default=SMALL)
    ingredients = (
        (len(visible_objects(plan.initial, world)) - 1) / (MANY_OBJECTS - 1),
        (len(plan.transformations) - 1) / (MANY_TRANSFORMATIONS - 1),
        math.log(LARGE / smallest) / math.log(LARGE / SMALL),
        math.sin(math.radians(angle_of(sample, pair)) / 2),
    )
    return round(sum(min(1.0, max(0.0, i)) for i in ingredients) / len(ingredients), 4)

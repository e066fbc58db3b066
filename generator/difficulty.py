"""How far apart the two views of a pair are, and how hard its question is to see."""

import math

from star_tvr.scenes.cameras import angle_between
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import REFERENCE_PIXELS
from star_tvr.scenes.world import World
from star_tvr.schemas.records import Pair, Sample


def view_angle(sample: Sample, pair: Pair) -> float:
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
        math.sin(math.radians(view_angle(sample, pair)) / 2),
    )
    return round(sum(min(1.0, max(0.0, i)) for i in ingredients) / len(ingredients), 4)

"""What is true of a pair of pictures: which objects each shows, where, and what changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.states import SceneObject
from star_tvr.scenes.transformations import Transformation
from star_tvr.scenes.visibility import REFERENCE_PIXELS
from star_tvr.scenes.world import World
from star_tvr.schemas.records import Image, Pair, Sample

Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels from the top left, x1 and y1 excluded."""

Size = tuple[int, int]
"""Width and height of a picture, in pixels."""

RELATIONS = ("left", "right", "front", "behind")


@dataclass(frozen=True)
class SceneGraph:
    """What can be seen in one image.

    Attributes:
        seen: the objects that show at least the data set's least number of pixels, by index;
            an object that changes needs a single pixel.
        boxes: of the visible pixels of every object that shows any.
        left: index of every object that shows any pixels: its centre's column, in pixels.
        relations: as stored, `relations["left"][0] == (3,)`: object 3 is left of object 0.
    """

    seen: Mapping[int, SceneObject]
    boxes: Mapping[int, Box]
    left: Mapping[int, float]
    relations: Mapping[str, Mapping[int, Sequence[int]]]

    def holds(self, subject: int, relation: str, other: int) -> bool:
        """Whether both objects are seen and the first stands in this relation to the other."""
        stored = self.relations.get(relation, {}).get(other, ())
        return subject in self.seen and other in self.seen and subject in stored

    def clear(self, subject: int, relation: str, other: int) -> bool:
        """Whether a relation holds on the ground and, left or right, in the pixels as well.

        Of two objects at different distances the one that stands further left may be seen further
        right.
        """
        if not self.holds(subject, relation, other):
            return False
        side = {"left": -1, "right": 1}.get(relation, 0)
        a, b = self.boxes[subject], self.boxes[other]
        apart = (self.left[subject] - self.left[other], a[0] + a[2] - b[0] - b[2])
        return not side or all(side * distance > 0 for distance in apart)


@dataclass(frozen=True)
class Facts:
    """What is true of a pair of pictures.

    Attributes:
        world: the vocabulary.
        initial: all objects before the changes, in the order of their index.
        pictures: the first and the second.
        changes: the transformations.
        attributes: what can change in the data set.
    """

    world: World
    initial: Sequence[SceneObject]
    pictures: tuple[SceneGraph, SceneGraph]
    changes: Sequence[Transformation]
    attributes: Sequence[str]

    @cached_property
    def changed(self) -> frozenset[int]:
        """The objects that change."""
        return frozenset(t.object for t in self.changes)

    @cached_property
    def anchors(self) -> frozenset[int]:
        """What can serve as a reference: seen in both pictures and unchanged."""
        first, second = self.pictures
        return frozenset((first.seen.keys() & second.seen.keys()) - self.changed)


def facts_of(
    sample: Sample, pair: Pair, world: World, config: DatasetConfig, seen: Size | None = None
) -> Facts:
    """The facts of one pair, from the labels of its two images.

    Args:
        sample, pair: whose facts.
        world, config: of the data set.
        seen: the size to which a model's processor scales the images, which boxes are then of;
            by default they are of the stored images.

    Raises:
        KeyError: the sample has no such image.
    """
    plan = sample.plan
    changed = {t.object for t in plan.transformations}
    pictures = (
        _picture(sample.image("initial", pair.initial), plan.initial, changed, config, seen),
        _picture(sample.image("final", pair.final), plan.final, changed, config, seen),
    )
    attributes = config.transformations.attributes
    return Facts(world, plan.initial, pictures, plan.transformations, attributes)


def _picture(
    image: Image,
    state: Sequence[SceneObject],
    changed: set[int],
    config: DatasetConfig,
    seen: Size | None,
) -> SceneGraph:
    least = config.visibility.min_pixels * image.width * image.height / REFERENCE_PIXELS
    shown = [o for o in image.objects if o.pixels > 0]
    width, height = seen or (image.width, image.height)
    across, down = width / image.width, height / image.height

    def scaled(box: Box) -> Box:
        x0, y0, x1, y1 = box
        return round(x0 * across), round(y0 * down), round(x1 * across), round(y1 * down)

    return SceneGraph(
        {o.index: state[o.index] for o in shown if o.pixels >= least or o.index in changed},
        {o.index: scaled(o.bbox) for o in shown if o.bbox is not None},
        {o.index: o.center[0] * across for o in shown},
        image.relations,
    )

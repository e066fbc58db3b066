"""The schemes of splitting: which scenes may be in which split, and which of their pairs it shows.

How many scenes a split gets and which ones is decided in splits.py, for all schemes alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

from star_tvr.generator.difficulty import difficulty, view_angle
from star_tvr.scenes.errors import ConfigError, ParameterError
from star_tvr.scenes.seeds import shuffled
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.world import APPEARANCE, World
from star_tvr.schemas.records import Pair, Sample

ANGLES = (15, 45, 90, 135)
"""Degrees between the bins of `view-angle`."""

LEAST_TRAINABLE = 0.5
"""`compositional` chooses so few combinations that this share of the scenes has none of them."""


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
            RatedPair(pair, view_angle(sample, pair), difficulty(sample, pair, world))
            for pair in sample.pairs()
        ),
    )


@dataclass(frozen=True)
class SplitOptions:
    """How to divide.

    Attributes:
        scheme: a key of `SCHEMES`.
        seed: another seed gives other scenes.
        proportions: share of all scenes (a float) or number of scenes (an int) of some splits.
        angles: for `view-angle`, degrees between its bins.
        max_objects: for `objects`, the most visible objects in training; None for the middle.
        attributes: for `compositional`, the two attributes that are combined.
        hold_out: for `compositional`, pairs of their values; none to have some chosen.
        paired: for `cross-view`, whether test_ood asks about the scenes of test_id.
    """

    scheme: str = "cross-view"
    seed: int = 0
    proportions: Mapping[str, float] = field(default_factory=dict)
    angles: tuple[int, ...] = ANGLES
    max_objects: int | None = None
    attributes: tuple[str, str] = ("shape", "color")
    hold_out: tuple[tuple[str, str], ...] = ()
    paired: bool = False


class SplitSpec(NamedTuple):
    """One split of a scheme.

    Attributes:
        share: of all scenes, unless proportions say otherwise; the share of `train` is not used.
        pool: the scenes that may be in it; each has a pair that it shows.
        shows: which pairs of its scenes it has.
        scenes_of: the split whose scenes it has too; None to draw its own.
    """

    share: float
    pool: Sequence[Scene]
    shows: Callable[[RatedPair], bool] = lambda rated: True
    scenes_of: str | None = None


SchemeSplits = tuple[dict[str, SplitSpec], dict[str, Any]]
"""The splits by name, `train` first, and what the scheme has decided by itself."""


def _cross_view(
    scenes: Sequence[Scene], world: World, options: SplitOptions, where: str
) -> SchemeSplits:
    """The paper's scheme: train, val and test_id see one view twice; test_ood another at the end.

    With the preset `star` a scene of test_ood gives two pairs, so that test_id and test_ood
    together hold one third each of center, left and right. Paired, test_id and test_ood have the
    same scenes, so that what another view costs can be measured scene by scene.
    """

    def same(rated: RatedPair) -> bool:
        return rated.pair.initial == rated.pair.final

    def other(rated: RatedPair) -> bool:
        return not same(rated)

    for kind, shows in (("seen twice from one camera", same), ("seen from two cameras", other)):
        if not all(any(map(shows, scene.pairs)) for scene in scenes):
            raise ConfigError(
                f"{where}: cross-view needs scenes {kind}, which its cameras.initial and "
                f"cameras.final do not give; render with the preset star, trance or random-view"
            )
    parts = {"train": SplitSpec(0, scenes, same), "val": SplitSpec(0.1, scenes, same)}
    if options.paired:
        parts["test_id"] = SplitSpec(0.3, scenes, same)
        return {**parts, "test_ood": SplitSpec(0, scenes, other, "test_id")}, {"paired": True}
    parts["test_id"] = SplitSpec(0.15, scenes, same)
    return {**parts, "test_ood": SplitSpec(0.15, scenes, other)}, {}


def _random(
    scenes: Sequence[Scene], world: World, options: SplitOptions, where: str
) -> SchemeSplits:
    """Scenes alone are kept apart: every split shows all pairs of its scenes."""
    return {
        "train": SplitSpec(0, scenes),
        "val": SplitSpec(0.1, scenes),
        "test_id": SplitSpec(0.3, scenes),
    }, {}


def _view_angle(
    scenes: Sequence[Scene], world: World, options: SplitOptions, where: str
) -> SchemeSplits:
    """Train on the smallest angles between the two views; one test for every bin of angles."""
    edges = (0, *options.angles, 180)
    if any(a >= b for a, b in zip(edges, edges[1:], strict=False)):
        message = "write rising whole numbers of degrees between 0 and 180, such as 15,45,90"
        raise ParameterError("angles", message, options.angles)
    bins: dict[str, SplitSpec] = {}
    for low, high in zip(edges, edges[1:], strict=False):

        def shows(rated: RatedPair, low: int = low, high: int = high) -> bool:
            return low <= rated.angle < high or rated.angle == high == 180

        pool = [scene for scene in scenes if any(map(shows, scene.pairs))]
        if pool:
            bins[f"test_{low:03}-{high:03}"] = SplitSpec(0, pool, shows)
    if len(bins) < 2:
        angles = sorted(r.angle for scene in scenes for r in scene.pairs) or [0]
        raise ConfigError(
            f"{where}: view-angle needs views that differ by angles of more than one bin; here "
            f"they differ by {angles[0]:.0f} to {angles[-1]:.0f} degrees. Choose other angles, "
            "or render with the preset star, orbit or random-view"
        )
    first, shows_first = next((part.pool, part.shows) for part in bins.values())
    tests = {name: part._replace(share=0.3 / len(bins)) for name, part in bins.items()}
    train = SplitSpec(0, first, shows_first)
    parts = {"train": train, "val": train._replace(share=0.1), **tests}
    return parts, {"angles": list(options.angles)}


def _objects(
    scenes: Sequence[Scene], world: World, options: SplitOptions, where: str
) -> SchemeSplits:
    """Train on scenes with few objects, test on such scenes and on those with many."""
    counts = sorted({scene.objects for scene in scenes}) or [0]
    most = options.max_objects
    if most is None:
        most = (counts[0] + counts[-1]) // 2
    few = [scene for scene in scenes if scene.objects <= most]
    many = [scene for scene in scenes if scene.objects > most]
    if not few or not many:
        raise ConfigError(
            f"{where}: objects needs scenes with up to {most} visible objects and scenes with "
            f"more; here they have {counts[0]} to {counts[-1]}. Choose another max_objects, or "
            "render with a wider range objects.visible"
        )
    return {
        "train": SplitSpec(0, few),
        "val": SplitSpec(0.1, few),
        "test_id": SplitSpec(0.15, few),
        "test_ood": SplitSpec(0, many),
    }, {"max_objects": most}


def _compositional(
    scenes: Sequence[Scene], world: World, options: SplitOptions, where: str
) -> SchemeSplits:
    """Train without some combinations of two attributes, as CLEVR's CoGenT; test on them."""
    first, second = (_attribute_index(attribute) for attribute in options.attributes)
    if first == second:
        raise ParameterError("attributes", "name two different ones", options.attributes)

    def parted(held: Sequence[tuple[str, str]]) -> tuple[list[Scene], list[Scene]]:
        without: list[Scene] = []
        having: list[Scene] = []
        for scene in scenes:
            seen = {(a[first], a[second]) for a in scene.appearances}
            (without if seen.isdisjoint(held) else having).append(scene)
        return without, having

    if options.hold_out:
        held = list(dict.fromkeys(options.hold_out))
        _check_hold_out(held, options.attributes, world)
        without, having = parted(held)
    else:
        held = _choose_hold_out(options, world)
        without, having = parted(held)
        while len(held) > 1 and len(without) < LEAST_TRAINABLE * len(scenes):
            held.pop()
            without, having = parted(held)
    words = ", ".join("+".join(combination) for combination in held)
    if not without or not having:
        which = "every scene has" if having else "no scene has"
        raise ConfigError(
            f"{where}: compositional needs scenes with and without the combinations held out, and "
            f"{which} some of {words}; choose others in hold_out"
        )
    return {
        "train": SplitSpec(0, without),
        "val": SplitSpec(0.1, without),
        "test_id": SplitSpec(0.15, without),
        "test_ood": SplitSpec(0, having),
    }, {"attributes": list(options.attributes), "hold_out": [list(c) for c in held]}


def _attribute_index(attribute: str) -> int:
    if attribute not in APPEARANCE:
        message = f"is unknown; known are {', '.join(APPEARANCE)}"
        raise ParameterError("attributes", message, attribute)
    return APPEARANCE.index(attribute)


def _check_hold_out(
    held: Sequence[tuple[str, str]], attributes: tuple[str, str], world: World
) -> None:
    """Known values only, and every value stays in training with some partner."""
    for k, attribute in enumerate(attributes):
        partners = set(world.values(attributes[1 - k]))
        for value in {combination[k] for combination in held}:
            if value not in world.values(attribute):
                known = ", ".join(world.values(attribute))
                message = f"is no {attribute} of this data set; known are {known}"
                raise ParameterError("hold_out", message, value)
            if {c[1 - k] for c in held if c[k] == value} >= partners:
                message = f"training would never see {attribute} {value}"
                raise ParameterError("hold_out", f"{message}; hold out fewer combinations of it")


def _choose_hold_out(options: SplitOptions, world: World) -> list[tuple[str, str]]:
    """One combination for each value of the first attribute, with different partners."""
    firsts, seconds = (world.values(attribute) for attribute in options.attributes)
    if min(len(firsts), len(seconds)) < 2:
        message = "compositional needs two values of each"
        raise ParameterError("attributes", message, options.attributes)
    order = shuffled(len(seconds), options.seed, "compositional")
    held = [(f, seconds[k]) for f, k in zip(firsts, cycle(order), strict=False)]
    return [held[k] for k in shuffled(len(held), options.seed, "dropped")]


SCHEMES: Mapping[str, Callable[[Sequence[Scene], World, SplitOptions, str], SchemeSplits]] = {
    "cross-view": _cross_view,
    "view-angle": _view_angle,
    "objects": _objects,
    "compositional": _compositional,
    "random": _random,
}

"""The metrics of the field: how good one answer is.

Eleven of them are those of STAR-R1 (arXiv 2505.15804); Diff, NDiff, Acc and loose Acc replay the
answer from the initial state as TRANCE (Hong et al., CVPR 2021) does. docs/metrics.md defines them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from star_tvr.scenes.cameras import angle_between
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.states import State, visible_objects
from star_tvr.scenes.transformations import (
    Transformation,
    replay,
    same_place,
    with_equivalents,
)
from star_tvr.scenes.world import World
from star_tvr.schemas.records import Pair
from star_tvr.training.answers import as_told, parse
from star_tvr.training.replay import count_differences, replay_answer


class Metric(NamedTuple):
    """How a metric is called and read.

    Attributes:
        label: as in papers.
        percent: whether it is a share, shown in percent.
        better: 1 if more is better, -1 if less is, 0 if neither.
    """

    label: str
    percent: bool = True
    better: int = 1


METRICS: Mapping[str, Metric] = {
    "tacc": Metric("TAcc"),
    "tacc_id": Metric("TAcc-ID"),
    "tacc_ood": Metric("TAcc-OOD"),
    "object": Metric("object accuracy"),
    "pair": Metric("pair accuracy"),
    "color": Metric("color accuracy"),
    "shape": Metric("shape accuracy"),
    "size": Metric("size accuracy"),
    "material": Metric("material accuracy"),
    "diff": Metric("Diff", percent=False, better=-1),
    "ndiff": Metric("NDiff", percent=False, better=-1),
    "position": Metric("position accuracy"),
    "acc": Metric("Acc (replayed)"),
    "loose_acc": Metric("loose Acc (replayed)"),
    "format": Metric("format rate"),
    "count_gap": Metric("n_pred - n_gt", percent=False, better=0),
}
"""All metrics by key; the first eleven are those of STAR-R1."""


@dataclass(frozen=True)
class EvaluationItem:
    """A question, its true answer, and somebody's completion.

    Attributes:
        pair: which images of which sample were shown.
        initial: the state in the first image.
        truth: the transformations that lead to the final state.
        completion: None if nothing was predicted.
        angle: between the two views, in degrees; None if unknown. Not used, only kept.
        draw: which of several answers to the item this is; None if there is only one.
        finish_reason: why the completion ended; `length` if it was cut off. Not used, only kept.
    """

    pair: Pair
    initial: State
    truth: tuple[Transformation, ...]
    world: World
    completion: str | None
    angle: float | None = None
    draw: int | None = None
    finish_reason: str | None = None


def item_of(
    plan: Plan, pair: Pair, world: World, completion: str | None, draw: int | None = None
) -> EvaluationItem:
    """The question that a pair asks about a plan, with a completion.

    Raises:
        DataError: the plan has no such camera.
    """
    for name in (pair.initial, pair.final):
        if name not in plan.cameras:
            raise DataError(f"sample {pair.sample}: there is no camera {name} in its sample.json")
    angle = angle_between(plan.cameras[pair.initial], plan.cameras[pair.final])
    return EvaluationItem(
        pair, plan.initial, plan.transformations, world, completion, round(angle, 3), draw
    )


@dataclass(frozen=True)
class Result:
    """One item, scored.

    Attributes:
        pair: which images of which sample were shown.
        truth, predictions: triplets as text; of predictions also what is no triplet.
        completion: None if nothing was predicted.
        objects: number of objects visible in the initial state.
        angle: between the two views, in degrees.
        counts: numerator and denominator of every metric; (0, 0) where it does not apply.
        draw: which of several answers to the item this is; None if there is only one.
        finish_reason: why the completion ended; `length` if it was cut off, None if unknown.
    """

    pair: Pair
    truth: tuple[str, ...]
    predictions: tuple[str, ...]
    completion: str | None
    objects: int
    angle: float | None
    counts: Mapping[str, tuple[float, float]]
    draw: int | None = None
    finish_reason: str | None = None

    def value(self, metric: str) -> float | None:
        """A metric of this item alone; None where it does not apply."""
        numerator, denominator = self.counts[metric]
        return numerator / denominator if denominator else None

    @property
    def right(self) -> bool:
        """Whether it counts for TAcc."""
        return self.counts["tacc"][0] == 1

    def to_json(self) -> dict[str, Any]:
        """The line of this item in a report: its metrics instead of their counts."""
        values = {key: self.value(key) for key in self.counts}
        return {
            **asdict(self.pair),
            **({} if self.draw is None else {"draw": self.draw}),
            "truth": list(self.truth),
            "predictions": list(self.predictions),
            "completion": self.completion,
            **({} if self.finish_reason is None else {"finish_reason": self.finish_reason}),
            "objects": self.objects,
            "angle": self.angle,
            "metrics": {key: value for key, value in values.items() if value is not None},
        }


def score_item(item: EvaluationItem) -> Result:
    """Score one completion.

    Raises:
        TripletError: the truth does not fit the initial state.
    """
    parsed = parse(item.completion or "")
    predictions, truth = parsed.predictions, item.truth
    final = replay(item.initial, truth, item.world)[-1]
    end = replay_answer(item.initial, predictions, item.world)
    diff = count_differences(end.state, final, item.world)
    readable = [p for p in predictions if isinstance(p, Transformation)]
    named = {(p.object, p.attribute) for p in readable}
    told = as_told(predictions, with_equivalents(item.initial, truth, item.world))
    right = Counter(told) == Counter(truth)
    same_view = item.pair.initial == item.pair.final
    loose = end.whole and diff == 0

    counts: dict[str, tuple[float, float]] = {
        "tacc": (right, 1),
        "tacc_id": (right, 1) if same_view else (0, 0),
        "tacc_ood": (0, 0) if same_view else (right, 1),
        "object": ({p.object for p in readable} == {t.object for t in truth}, 1),
        "pair": (named == {(t.object, t.attribute) for t in truth}, 1),
        "diff": (diff, 1),
        "ndiff": (diff / max(1, len(truth)), 1),
        "acc": (loose and end.legal, 1),
        "loose_acc": (loose, 1),
        "format": (parsed.format_ok, 1),
        "count_gap": (len(predictions) - len(truth), 1),
    }
    exact = set(readable)
    for attribute in ("color", "shape", "size", "material"):
        wanted = [t for t in truth if t.attribute == attribute]
        counts[attribute] = (sum(t in exact for t in wanted), len(wanted))
    moved = {t.object for t in truth if t.attribute == "position"}
    arrived = [
        (o, "position") in named and same_place(end.state[o], final[o], item.world) for o in moved
    ]
    counts["position"] = (sum(arrived), len(moved))
    return Result(
        pair=item.pair,
        truth=tuple(str(t) for t in truth),
        predictions=tuple(str(p) for p in predictions),
        completion=item.completion,
        objects=len(visible_objects(item.initial, item.world)),
        angle=item.angle,
        counts={key: (float(counts[key][0]), float(counts[key][1])) for key in METRICS},
        draw=item.draw,
        finish_reason=item.finish_reason,
    )

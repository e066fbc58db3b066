"""The metrics of the field, with intervals: how good the answers to a set of questions are.

Eleven of them are those of STAR-R1 (arXiv 2505.15804); Diff, NDiff, Acc and loose Acc replay the
answer from the initial state as TRANCE (Hong et al., CVPR 2021) does. docs/metrics.md defines them.

Every metric is a ratio of two sums over items. Items of one scene are not independent, so the
bootstrap draws scenes, not items. With several answers to each item the sums are over answers, so
metrics are means over samples; pass@k is there as well.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from star_tvr.scenes.cameras import angle_between
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.rules import overlapping
from star_tvr.scenes.seeds import stream
from star_tvr.scenes.states import State, visible_objects
from star_tvr.scenes.transformations import Transformation, TripletError, apply, replay
from star_tvr.scenes.world import World
from star_tvr.schemas.checks import check, parse_json
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.files import read_text
from star_tvr.schemas.records import Pair
from star_tvr.training.answers import Prediction, compose, parse

Floats = NDArray[np.float64]

RESAMPLES = 1000
OBJECT_BINS = ((1, 3), (4, 6), (7, 8), (9, 10))


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
    "compares_views": Metric("compares views", better=0),
}
"""All metrics by key; the first eleven are those of STAR-R1."""


@dataclass(frozen=True)
class Item:
    """A question, its true answer, and somebody's completion.

    Attributes:
        pair: which images of which sample were shown.
        initial: the state in the first image.
        truth: the transformations that lead to the final state.
        completion: None if nothing was predicted.
        angle: between the two views, in degrees; None if unknown. Not used, only kept.
        draw: which of several answers to the item this is; None if there is only one.
    """

    pair: Pair
    initial: State
    truth: tuple[Transformation, ...]
    world: World
    completion: str | None
    angle: float | None = None
    draw: int | None = None


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
    """

    pair: Pair
    truth: tuple[str, ...]
    predictions: tuple[str, ...]
    completion: str | None
    objects: int
    angle: float | None
    counts: Mapping[str, tuple[float, float]]
    draw: int | None = None

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
            "objects": self.objects,
            "angle": self.angle,
            "metrics": {key: value for key, value in values.items() if value is not None},
        }


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap 95 % interval.

    Attributes:
        value, low, high: None if there is nothing to measure it on.
        count: what the ratio is over: items, or true transformations of one attribute.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int


Estimates = Mapping[str, Estimate]
"""By key of `METRICS`."""


@dataclass(frozen=True)
class Report:
    """All metrics of a set of items.

    Attributes:
        missing: number of answers that are not there; they count as wrong.
        overall: over all items, and all answers to them.
        groups: by `view` (same, other), `final` camera, number of `transformations`, and number
            of visible `objects`; the members of a group in their natural order.
        results: every answer to every item.
        pass_at: pass@k by k, where there are several answers to each item; else empty.
    """

    missing: int
    overall: Estimates
    groups: Mapping[str, Mapping[str, Estimates]]
    results: tuple[Result, ...]
    pass_at: Mapping[int, Estimate] = field(default_factory=dict)

    @property
    def items(self) -> int:
        """Number of items, however many answers each has."""
        return len({result.pair for result in self.results})

    def to_json(self, results: bool = True) -> dict[str, Any]:
        """Plain JSON; shares are from 0 to 1.

        Args:
            results: whether to include every answer.
        """
        several = {"answers": len(self.results)} if self.pass_at else {}
        pass_at = {str(k): asdict(estimate) for k, estimate in self.pass_at.items()}
        document: dict[str, Any] = {
            "items": self.items,
            **several,
            "missing": self.missing,
            "metrics": _estimates_to_json(self.overall),
            **({"pass_at": pass_at} if self.pass_at else {}),
            "by": {
                group: {name: _estimates_to_json(values) for name, values in members.items()}
                for group, members in self.groups.items()
            },
        }
        if results:
            document["results"] = [result.to_json() for result in self.results]
        return document


@dataclass(frozen=True)
class Wins:
    """On how many items who is right (TAcc), or more often right where there are several answers.

    Attributes:
        both, neither: as often, and at least once, or never.
        first, second: this one more often.
    """

    both: int
    first: int
    second: int
    neither: int


@dataclass(frozen=True)
class Comparison:
    """Two sets of answers to the same questions.

    Attributes:
        overall, groups: the first minus the second, with the interval of that difference.
        wins: who is right, over all items (`""`, `""`) and in every (group, member).
        only_first, only_second: the questions that only one of them got right, or more often.
    """

    overall: Estimates
    groups: Mapping[str, Mapping[str, Estimates]]
    wins: Mapping[tuple[str, str], Wins]
    only_first: tuple[Pair, ...]
    only_second: tuple[Pair, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; differences of shares are from -1 to 1."""
        return {
            "difference": _estimates_to_json(self.overall),
            "wins": asdict(self.wins["", ""]),
            "by": {
                group: {
                    name: {
                        "difference": _estimates_to_json(values),
                        "wins": asdict(self.wins[group, name]),
                    }
                    for name, values in members.items()
                }
                for group, members in self.groups.items()
            },
            "only_first": [pair.to_json() for pair in self.only_first],
            "only_second": [pair.to_json() for pair in self.only_second],
        }


def score_items(items: Iterable[Item]) -> Report:
    """Score completions.

    Raises:
        TripletError: a truth does not fit its initial state.
    """
    results = tuple(score_item(item) for item in items)
    return Report(
        missing=sum(r.completion is None for r in results),
        overall=_estimate(results),
        groups={
            group: {name: _estimate(members) for name, members in table.items()}
            for group, table in _grouped(results).items()
        },
        results=results,
        pass_at=_pass_at(results),
    )


def score_file(path: str | Path, dataset: Dataset, split: str | None = None) -> Report:
    """Score a file of predictions.

    Args:
        path: JSON Lines of `{"sample", "initial", "final", "completion"}`, with a number `draw`
            where there are several answers to an item. Every item then counts with every draw
            that is in the file for any item.
        dataset: what the predictions are about.
        split: such as `cross-view/test_ood`; its items without a prediction count as wrong.
            Without a split, what the file predicts is all there is.

    Raises:
        DataError: naming file and line: a line is malformed, or predicts what the split or the
            data set does not have, or what an earlier line predicted.
    """
    predictions = read_predictions(Path(path))
    predicted = dict.fromkeys(pair for pair, _ in predictions)
    pairs = list(predicted) if split is None else dataset.split(split)
    known = set(pairs)
    plan_of = cache(lambda sample: dataset.sample(sample).plan)
    for (pair, _), (line, _) in predictions.items():
        if pair not in known or (split is None and not _has(dataset, pair, plan_of)):
            raise DataError(
                f"{path}, line {line}: {_words(pair)} is not in {split or dataset.root}; "
                "remove the line, or name the split it belongs to"
            )
    draws = sorted({draw for _, draw in predictions}) or [0]
    return score_items(
        item_of(
            plan_of(pair.sample),
            pair,
            dataset.world,
            predictions.get((pair, draw), (0, None))[1],
            draw if len(draws) > 1 else None,
        )
        for pair in pairs
        for draw in draws
    )


def read_predictions(path: Path) -> dict[tuple[Pair, int], tuple[int, str]]:
    """Line number and completion of every pair and draw in a file of predictions, in its order.

    A line without a draw is draw 0.

    Raises:
        DataError: naming file and line: a line is malformed or predicts a pair again.
    """
    predictions: dict[tuple[Pair, int], tuple[int, str]] = {}
    # Not splitlines(): a completion may hold characters that only Python takes for line ends.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        document = parse_json(line, where)
        check(document, "prediction", where)
        pair = Pair(document["sample"], document["initial"], document["final"])
        key = pair, int(document.get("draw", 0))
        if key in predictions:
            raise DataError(
                f"{where}: {_words(pair)} was already predicted in line {predictions[key][0]}; "
                "remove one of the two, or number them: draw 0, draw 1"
            )
        # JSON can name half a surrogate pair, which no file can hold when results are written.
        completion = document["completion"].encode("utf-8", "replace").decode()
        predictions[key] = (number, completion)
    return predictions


def item_of(
    plan: Plan, pair: Pair, world: World, completion: str | None, draw: int | None = None
) -> Item:
    """The question that a pair asks about a plan, with a completion."""
    angle = angle_between(plan.cameras[pair.initial], plan.cameras[pair.final])
    return Item(pair, plan.initial, plan.transformations, world, completion, round(angle, 3), draw)


def _has(dataset: Dataset, pair: Pair, plan_of: Callable[[str], Plan]) -> bool:
    """Whether the data set has both images of a pair."""
    if not (dataset.folder(pair.sample) / "sample.json").is_file():
        return False
    return {("initial", pair.initial), ("final", pair.final)} <= set(plan_of(pair.sample).views)


def _words(pair: Pair) -> str:
    return f"sample {pair.sample}, {pair.initial} to {pair.final},"


def enumeration(initial: State, world: World, attributes: Sequence[str]) -> str:
    """The completion that names every triplet: each value of each attribute of each object."""
    return compose(
        Transformation(o.index, attribute, value)
        for o in initial
        for attribute in attributes
        for value in world.values(attribute)
    )


SILENCE = compose(())
"""The completion that names nothing, in the right form."""


def score_item(item: Item) -> Result:
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
    right = end.whole and _but_for_moves(readable) == _but_for_moves(truth) and diff == 0
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
        "compares_views": (compares_views(item.completion or ""), 1),
    }
    exact = set(readable)
    for attribute in ("color", "shape", "size", "material"):
        wanted = [t for t in truth if t.attribute == attribute]
        counts[attribute] = (sum(t in exact for t in wanted), len(wanted))
    moved = {t.object for t in truth if t.attribute == "position"}
    arrived = [
        (o, "position") in named and _same_place(end.state, final, o, item.world) for o in moved
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
    )


def _but_for_moves(triplets: Iterable[Transformation]) -> Counter[tuple[int, str, str]]:
    """The triplets in any order, moves without how they go: where they lead is what counts."""
    return Counter(
        (t.object, t.attribute, "" if t.attribute == "position" else t.value) for t in triplets
    )


class Replayed(NamedTuple):
    """What an answer leads to.

    Attributes:
        state: the state it leads to; what cannot be replayed is left out.
        whole: everything could be replayed.
        legal: no overlap and nothing outside the valid area after any step.
    """

    state: State
    whole: bool
    legal: bool


def replay_answer(initial: State, predictions: Iterable[Prediction], world: World) -> Replayed:
    """Apply predictions in their order. Source: TRANCE's evaluator."""
    state, whole, legal = initial, True, True
    for prediction in predictions:
        if isinstance(prediction, str):
            whole = False
            continue
        try:
            state = apply(state, prediction, world)
        except TripletError:
            whole = False
            continue
        if legal and prediction.attribute in ("position", "size"):
            changed = state[prediction.object]
            others = [o for o in state if o.index != changed.index]
            legal = world.in_valid_area(changed.x, changed.y) and not any(
                overlapping(changed, other, world) for other in others
            )
    return Replayed(state, whole, legal)


def count_differences(first: State, second: State, world: World) -> int:
    """TRANCE's Diff: attributes of objects that differ; a position is one attribute."""
    return sum(
        (a.shape != b.shape)
        + (a.size != b.size)
        + (a.color != b.color)
        + (a.material != b.material)
        + (not _same_place(first, second, k, world))
        for k, (a, b) in enumerate(zip(first, second, strict=True))
    )


def _same_place(first: State, second: State, k: int, world: World) -> bool:
    """Whether object k is at the same place in both; all places outside the visible area are."""
    a, b = first[k], second[k]
    return (a.x, a.y) == (b.x, b.y) or not (a.visible(world) or b.visible(world))


_PICTURE = r"(?:image|picture|view|viewpoint|scene|state|photo|frame)"
_FIRST = re.compile(
    rf"\b(?:(?:initial|first|original)\s+(?:\w+\s+)?{_PICTURE}|{_PICTURE}\s+(?:1|one)|before)\b",
    re.IGNORECASE,
)
_SECOND = re.compile(
    rf"\b(?:(?:final|second|new)\s+(?:\w+\s+)?{_PICTURE}|{_PICTURE}\s+(?:2|two)|after)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?;](?=\s)|\n")


def compares_views(completion: str) -> bool:
    """Whether some sentence before the answer speaks of both pictures: a heuristic.

    >>> compares_views("The cube left in the first image is the one behind in the second view.")
    True
    >>> compares_views("The first image shows a cube. The second image shows a sphere.")
    False
    """
    reasoning = completion.partition("<answer>")[0]
    return any(
        _FIRST.search(sentence) and _SECOND.search(sentence)
        for sentence in _SENTENCE_END.split(reasoning)
    )


def compare(first: Report, second: Report) -> Comparison:
    """Compare two sets of answers item by item (paired bootstrap over scenes).

    Each of them may have several answers to an item; they need not be as many.

    Raises:
        DataError: the two do not answer the same questions.
    """
    theirs = _by_pair(second.results)
    mine_right, theirs_right = (
        {pair: sum(r.right for r in answers) / len(answers) for pair, answers in table.items()}
        for table in (_by_pair(first.results), theirs)
    )
    if mine_right.keys() != theirs.keys():
        raise DataError(
            f"the two sets of predictions answer different questions "
            f"({first.items} and {second.items} items); score both on one split"
        )

    def pairs_of(mine: Sequence[Result]) -> Iterable[Pair]:
        return dict.fromkeys(result.pair for result in mine)

    def difference(mine: Sequence[Result]) -> Estimates:
        return _estimate(mine, [result for pair in pairs_of(mine) for result in theirs[pair]])

    def wins(mine: Sequence[Result]) -> Wins:
        seen: Counter[str] = Counter()
        for pair in pairs_of(mine):
            ours, other = mine_right[pair], theirs_right[pair]
            equal = "both" if ours else "neither"
            seen["first" if ours > other else "second" if ours < other else equal] += 1
        return Wins(seen["both"], seen["first"], seen["second"], seen["neither"])

    grouped = _grouped(first.results)
    return Comparison(
        overall=difference(first.results),
        groups={
            group: {name: difference(members) for name, members in table.items()}
            for group, table in grouped.items()
        },
        wins={
            ("", ""): wins(first.results),
            **{
                (group, name): wins(members)
                for group, table in grouped.items()
                for name, members in table.items()
            },
        },
        only_first=tuple(p for p, share in mine_right.items() if share > theirs_right[p]),
        only_second=tuple(p for p, share in mine_right.items() if share < theirs_right[p]),
    )


def _by_pair(results: Iterable[Result]) -> dict[Pair, list[Result]]:
    table: dict[Pair, list[Result]] = {}
    for result in results:
        table.setdefault(result.pair, []).append(result)
    return table


def pass_at_k(n: int, right: int, k: int) -> float:
    """The chance that one of k answers is right, from n answers of which some are.

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374): the share of all choices of k of
    the n answers that hold a right one.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 3, 2)
    (0.25, 0.5, 1.0)
    """
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def _pass_at(results: Sequence[Result]) -> dict[int, Estimate]:
    """pass@k over items, for k = 1, 2, 4, … and all, if every item has several answers."""
    table = _by_pair(results)
    most = min((len(answers) for answers in table.values()), default=0)
    if most < 2:
        return {}
    ks = [*(2**i for i in range((most - 1).bit_length())), most]
    scenes = {sample: row for row, sample in enumerate(sorted({p.sample for p in table}))}
    sums = np.zeros((len(scenes), len(ks), 2))
    for pair, answers in table.items():
        n, right = len(answers), sum(answer.right for answer in answers)
        sums[scenes[pair.sample]] += [(pass_at_k(n, right, k), 1) for k in ks]
    return {
        k: Estimate(value, low, high, len(table))
        for k, (value, low, high) in zip(ks, bootstrap(sums).tolist(), strict=True)
    }


Grouped = dict[str, dict[str, list[Result]]]


def _grouped(results: Sequence[Result]) -> Grouped:
    """Results by group and member, without members that have none."""
    return {
        "view": _members(results, lambda r: (r.pair.initial != r.pair.final, _view_of(r))),
        "final": _members(results, lambda r: (0, r.pair.final)),
        "transformations": _members(results, lambda r: (len(r.truth), str(len(r.truth)))),
        "objects": _members(results, lambda r: objects_bin(r.objects)),
    }


def _members(
    results: Sequence[Result], place: Callable[[Result], tuple[int, str]]
) -> dict[str, list[Result]]:
    table: dict[tuple[int, str], list[Result]] = {}
    for result in results:
        table.setdefault(place(result), []).append(result)
    return {name: members for (_, name), members in sorted(table.items(), key=lambda m: m[0])}


def _view_of(result: Result) -> str:
    return "same" if result.pair.initial == result.pair.final else "other"


def objects_bin(count: int) -> tuple[int, str]:
    """The bin a number of visible objects is in: its smallest number and its name.

    >>> objects_bin(5), objects_bin(12)
    ((4, '4-6'), (11, '11+'))
    """
    for low, high in OBJECT_BINS:
        if count <= high:
            return low, f"{low}-{high}"
    return OBJECT_BINS[-1][1] + 1, f"{OBJECT_BINS[-1][1] + 1}+"


def _estimate(
    results: Sequence[Result], others: Sequence[Result] | None = None
) -> dict[str, Estimate]:
    """Every metric of the results, or what it is more than that of others on the same items."""
    sums = _scene_sums(results)
    values = bootstrap(sums, None if others is None else _scene_sums(others)).tolist()
    counts = sums[:, :, 1].sum(axis=0).tolist()
    estimates = {}
    for key, numbers, count in zip(METRICS, values, counts, strict=True):
        value, low, high = (None if math.isnan(x) else x for x in numbers)
        estimates[key] = Estimate(value, low, high, round(count))
    return estimates


def _scene_sums(results: Sequence[Result]) -> Floats:
    """Numerators and denominators summed over each scene. Shape: (scenes, metrics, 2)."""
    scenes = {sample: row for row, sample in enumerate(sorted({r.pair.sample for r in results}))}
    rows = [scenes[r.pair.sample] for r in results]
    sums = np.zeros((len(scenes), len(METRICS), 2))
    if results:
        np.add.at(sums, rows, [[r.counts[key] for key in METRICS] for r in results])
    return sums


def bootstrap(sums: Floats, others: Floats | None = None, resamples: int = RESAMPLES) -> Floats:
    """Ratios of sums with percentile intervals over resampled rows; always the same draws.

    Args:
        sums: numerators and denominators. Shape: (n, metrics, 2).
        others: subtract the ratios of these, drawn together with `sums`. Same shape.
        resamples: number of draws.

    Returns:
        Value, 2.5th and 97.5th percentile; NaN where a denominator is 0. Shape: (metrics, 3).
    """

    def ratios(weights: Floats) -> Floats:
        """Shape: (draws, n) to (draws, metrics)."""
        parts = []
        for array in (sums, others):
            if array is not None:
                total = np.tensordot(weights, array, axes=1)
                with np.errstate(invalid="ignore"):
                    parts.append(total[..., 0] / total[..., 1])
        return parts[0] - parts[1] if others is not None else parts[0]

    n = len(sums)
    value = ratios(np.ones((1, n)))[0]
    if n == 0:
        return np.stack([value] * 3, axis=1)
    rng = stream(0, "bootstrap")
    share = np.full(n, 1 / n)
    chunk = max(1, 2_000_000 // n)
    draws = np.concatenate(
        [
            ratios(rng.multinomial(n, share, size=min(chunk, resamples - k)).astype(float))
            for k in range(0, resamples, chunk)
        ]
    )
    interval = np.full((2, draws.shape[1]), np.nan)
    measured = ~np.isnan(draws).all(axis=0)
    interval[:, measured] = np.nanpercentile(draws[:, measured], [2.5, 97.5], axis=0)
    return np.vstack([value, interval]).T


def table(report: Report) -> Table:
    """Every metric that applies, over all items."""
    items = f"{report.items} items"
    missing = f", {report.missing} of them without a prediction" if report.missing else ""
    if report.pass_at:
        items += f", {len(report.results)} answers"
        missing = f", {report.missing} of them missing" if report.missing else ""
    result = Table("metric", title=items + missing)
    for heading in ("value", "95 % interval", "n"):
        result.add_column(heading, justify="right")
    for key, estimate in report.overall.items():
        if estimate.value is not None:
            result.add_row(METRICS[key].label, *_cells(key, estimate), str(estimate.count))
    for k, estimate in report.pass_at.items():
        result.add_row(f"pass@{k}", *_cells("tacc", estimate), str(estimate.count))
    return result


GROUP_COLUMNS = ("object", "pair", "ndiff", "count_gap")


def group_table(report: Report) -> Table:
    """TAcc and more by view, final camera, number of transformations and of objects."""
    result = Table(title="by group")
    result.add_column("group", no_wrap=True)
    for heading in ("n", "TAcc", "95 % interval", *(METRICS[k].label for k in GROUP_COLUMNS)):
        result.add_column(heading, justify="right", no_wrap=heading == "95 % interval")
    for group, members in report.groups.items():
        for name, estimates in members.items():
            tacc = estimates["tacc"]
            others = (_cells(key, estimates[key])[0] for key in GROUP_COLUMNS)
            result.add_row(f"{group} {name}", str(tacc.count), *_cells("tacc", tacc), *others)
        result.add_section()
    return result


def comparison_table(comparison: Comparison) -> Table:
    """Differences (first minus second) of all metrics, then TAcc by group with who wins."""
    result = Table("metric", title="first minus second")
    for heading in ("difference", "95 % interval", "only first right", "only second right"):
        result.add_column(heading, justify="right")
    for key, estimate in comparison.overall.items():
        if estimate.value is not None:
            won = comparison.wins["", ""]
            wins = [str(won.first), str(won.second)] if key == "tacc" else ["", ""]
            result.add_row(METRICS[key].label, *_cells(key, estimate, signed=True), *wins)
    for group, members in comparison.groups.items():
        result.add_section()
        for name, estimates in members.items():
            won = comparison.wins[group, name]
            cells = _cells("tacc", estimates["tacc"], signed=True)
            result.add_row(f"TAcc, {group} {name}", *cells, str(won.first), str(won.second))
    return result


def _cells(key: str, estimate: Estimate, signed: bool = False) -> tuple[str, str]:
    """The value and the interval as text."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "-", ""
    scale, form = (100, ".1f") if METRICS[key].percent else (1, ".2f")
    sign = "+" if signed or key == "count_gap" else ""
    value, low, high = (
        f"{scale * x:{sign}{form}}" for x in (estimate.value, estimate.low, estimate.high)
    )
    return value, f"[{low}, {high}]"


def _estimates_to_json(estimates: Estimates) -> dict[str, Any]:
    return {key: asdict(estimate) for key, estimate in estimates.items()}

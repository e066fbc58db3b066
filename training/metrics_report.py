"""All metrics of a set of answers, with intervals, by group, and as JSON.

Every metric is a ratio of two sums over items. Items of one scene are not independent, so the
bootstrap draws scenes, not items. With several answers to each item the sums are over answers, so
metrics are means over samples; pass@k is there as well.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from star_tvr.scenes.errors import DataError, TvrError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.world import ATTRIBUTES
from star_tvr.schemas.checks import read_json
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Pair
from star_tvr.training.answers import parse_truth
from star_tvr.training.bootstrap import Estimate, Floats, estimates, scene_sums
from star_tvr.training.metrics import METRICS, EvaluationItem, Result, item_of, score_item
from star_tvr.training.pairs import choose_questions
from star_tvr.training.predictions import pair_words, read_predictions

OBJECT_BINS = ((1, 3), (4, 6), (7, 8), (9, 10))

Estimates = Mapping[str, Estimate]
"""By key of `METRICS`."""


@dataclass(frozen=True)
class MetricsReport:
    """All metrics of a set of items.

    Attributes:
        missing: number of answers that are not there; they count as wrong.
        overall: over all items, and all answers to them.
        groups: by `split` if there are several, `view` (same, other), `final` camera, number of
            `transformations`, and number of visible `objects`; the members of a group in their
            natural order.
        results: every answer to every item.
        pass_at: pass@k by k, where there are several answers to each item; else empty.
        view_cost: TAcc seen again from the same camera minus TAcc from others, over the scenes
            that were asked about in both ways (`tvr split --paired`); None if there are none.
    """

    missing: int
    overall: Estimates
    groups: Mapping[str, Mapping[str, Estimates]]
    results: tuple[Result, ...]
    pass_at: Mapping[int, Estimate] = field(default_factory=dict)
    view_cost: Estimate | None = None

    @property
    def items(self) -> int:
        """Number of items, however many answers each has."""
        return len({result.pair for result in self.results})

    @property
    def truncated(self) -> int:
        """Number of answers that are known to have been cut off at the longest length."""
        return sum(result.finish_reason == "length" for result in self.results)

    def to_json(self, results: bool = True) -> dict[str, Any]:
        """Plain JSON; shares are from 0 to 1.

        Args:
            results: whether to include every answer.
        """
        several = {"answers": len(self.results)} if self.pass_at else {}
        pass_at = {str(k): asdict(estimate) for k, estimate in self.pass_at.items()}
        told = any(result.finish_reason is not None for result in self.results)
        document: dict[str, Any] = {
            "items": self.items,
            **several,
            "missing": self.missing,
            **({"truncated": self.truncated} if told else {}),
            "metrics": estimates_to_json(self.overall),
            **({"pass_at": pass_at} if self.pass_at else {}),
            **({"view_cost": asdict(self.view_cost)} if self.view_cost else {}),
            "by": {
                group: {name: estimates_to_json(values) for name, values in members.items()}
                for group, members in self.groups.items()
            },
        }
        if results:
            document["results"] = [result.to_json() for result in self.results]
        return document


def score_items(
    items: Iterable[EvaluationItem], splits: Mapping[str, Collection[Pair]] | None = None
) -> MetricsReport:
    """Score completions.

    Args:
        items: questions with answers.
        splits: the pairs of every split, if each is to be looked at apart as well.

    Raises:
        TripletError: a truth does not fit its initial state.
    """
    silent: dict[Pair, Result] = {}  # no answer is as good as any other to the same question
    results = tuple(_score(item, silent) for item in items)
    tables = grouped(results)
    if splits:
        members = {name: [r for r in results if r.pair in splits[name]] for name in splits}
        tables = {"split": {name: found for name, found in members.items() if found}, **tables}
    return MetricsReport(
        missing=sum(r.completion is None for r in results),
        overall=estimate_metrics(results),
        groups={
            group: {name: estimate_metrics(members) for name, members in table.items()}
            for group, table in tables.items()
        },
        results=results,
        pass_at=_pass_at(results),
        view_cost=_view_cost(results),
    )


def _score(item: EvaluationItem, silent: dict[Pair, Result]) -> Result:
    if item.completion is not None:
        return score_item(item)
    if item.pair not in silent:
        silent[item.pair] = score_item(item)
    return replace(silent[item.pair], draw=item.draw)


MOST_ANSWERS = 1_000_000
"""Answers, given or missing, that are scored at a time."""


def score_file(
    path: str | Path,
    dataset: Dataset,
    split: str | Sequence[str] | None = None,
    limit: int | None = None,
) -> MetricsReport:
    """Score a file of predictions.

    Args:
        path: JSON Lines of `{"sample", "initial", "final", "completion"}`, with a number `draw`
            where there are several answers to an item. Every item then counts with every draw
            that is in the file for any item.
        dataset: what the predictions are about.
        split: such as `cross-view/test_ood`, or several; items of theirs without a prediction
            count as wrong. Without a split, what the file predicts is all there is.
        limit: see `choose_questions`.

    Raises:
        DataError: naming file and line: a line is malformed, or predicts what the split or the
            data set does not have, or what an earlier line predicted; or there is nothing to score,
            or too much.
    """
    predictions = read_predictions(Path(path))
    predicted = dict.fromkeys(pair for pair, _ in predictions)
    splits = [split] if isinstance(split, str) else list(split or ())
    pairs = choose_questions(dataset, splits, limit) if splits else list(predicted)
    known = set(pairs)
    plan_of = cache(lambda sample: dataset.sample(sample).plan)
    for (pair, _), prediction in predictions.items():
        if pair not in known or (not splits and not _has(dataset, pair, plan_of)):
            where = " and ".join(splits) or dataset.root
            raise DataError(
                f"{path}, line {prediction.line}: {pair_words(pair)} is not in {where}; "
                "remove the line, or name the split it belongs to"
            )
    draws = sorted({draw for _, draw in predictions}) or [0]
    if not pairs:
        raise DataError(f"{path}: there is nothing to score, neither in it nor in a split")
    if len(pairs) * len(draws) > MOST_ANSWERS:
        raise DataError(
            f"{path}: {len(draws)} draws of {len(pairs)} items are more than {MOST_ANSWERS} "
            "answers; split the file"
        )

    def items() -> Iterator[EvaluationItem]:
        for pair in pairs:
            item = item_of(plan_of(pair.sample), pair, dataset.world, None)
            for draw in draws:
                given = predictions.get((pair, draw))
                yield replace(
                    item,
                    completion=given and given.completion,
                    finish_reason=given and given.finish_reason,
                    draw=draw if len(draws) > 1 else None,
                )

    apart = {name: set(dataset.split(name)) for name in splits} if len(splits) > 1 else None
    return score_items(items(), apart)


def _has(dataset: Dataset, pair: Pair, plan_of: Callable[[str], Plan]) -> bool:
    """Whether the data set has both images of a pair."""
    if not (dataset.folder(pair.sample) / "sample.json").is_file():
        return False
    return {("initial", pair.initial), ("final", pair.final)} <= set(plan_of(pair.sample).views)


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
    table = by_pair(results)
    most = min((len(answers) for answers in table.values()), default=0)
    if most < 2:
        return {}
    ks = [*(2**i for i in range((most - 1).bit_length())), most]
    shares = [
        [(pass_at_k(len(answers), sum(a.right for a in answers), k), 1) for k in ks]
        for answers in table.values()
    ]
    sums = scene_sums([pair.sample for pair in table], np.array(shares))
    return dict(zip(ks, estimates(sums), strict=True))


def _view_cost(results: Sequence[Result]) -> Estimate | None:
    """TAcc of same views minus that of other views, paired by scene."""
    views: dict[str, dict[str, list[bool]]] = {"same": {}, "other": {}}
    for result in results:
        views[_view_of(result)].setdefault(result.pair.sample, []).append(result.right)
    scenes = sorted(views["same"].keys() & views["other"].keys())
    if not scenes:
        return None
    same, other = (
        np.array([[[sum(asked[s]), len(asked[s])]] for s in scenes], float)
        for asked in views.values()
    )
    return replace(estimates(same, other)[0], count=len(scenes))


def by_pair(results: Iterable[Result]) -> dict[Pair, list[Result]]:
    """The answers to each question."""
    table: dict[Pair, list[Result]] = {}
    for result in results:
        table.setdefault(result.pair, []).append(result)
    return table


Grouped = dict[str, dict[str, list[Result]]]


def grouped(results: Sequence[Result]) -> Grouped:
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


def estimate_metrics(
    results: Sequence[Result], others: Sequence[Result] | None = None
) -> dict[str, Estimate]:
    """Every metric of the results, or what it is more than that of others on the same items."""
    sums = _sums(results)
    found = estimates(sums, None if others is None else _sums(others))
    return dict(zip(METRICS, found, strict=True))


def mean_of(results: Sequence[Result], indicator: Callable[[Result], float | None]) -> Estimate:
    """The mean over the results where there is a value, with a bootstrap interval over scenes."""
    values = [(result.pair.sample, indicator(result)) for result in results]
    ratios = [[(value or 0, value is not None)] for _, value in values]
    sums = scene_sums([scene for scene, _ in values], np.array(ratios, float).reshape(-1, 1, 2))
    return estimates(sums)[0]


def _sums(results: Sequence[Result]) -> Floats:
    """Numerators and denominators summed over each scene. Shape: (scenes, metrics, 2)."""
    counts = np.array([[r.counts[key] for key in METRICS] for r in results])
    return scene_sums([r.pair.sample for r in results], counts.reshape(-1, len(METRICS), 2))


def estimates_to_json(estimates: Estimates) -> dict[str, Any]:
    """Each as value, low, high and count, by key."""
    return {key: asdict(estimate) for key, estimate in estimates.items()}


def read_metrics(path: Path) -> MetricsReport:
    """Read a file that holds what `MetricsReport.to_json` made.

    Raises:
        DataError: the file says something else.
    """
    document = read_json(path)
    try:
        return MetricsReport(
            missing=int(document["missing"]),
            overall=_estimates(document["metrics"]),
            groups={
                group: {name: _estimates(values) for name, values in members.items()}
                for group, members in document["by"].items()
            },
            results=tuple(_result(entry) for entry in document.get("results", ())),
            pass_at={int(k): _estimate(found) for k, found in document.get("pass_at", {}).items()},
            view_cost=_estimate(document["view_cost"]) if "view_cost" in document else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, TvrError) as problem:
        raise DataError(
            f"{path}: is not what tvr evaluate writes ({type(problem).__name__}: {problem}); "
            "delete it and evaluate again"
        ) from None


def _estimates(document: Mapping[str, Any]) -> dict[str, Estimate]:
    return {key: _estimate(document.get(key, {})) for key in METRICS}


def _estimate(found: Mapping[str, Any]) -> Estimate:
    value, low, high = (_float(found.get(name)) for name in ("value", "low", "high"))
    return Estimate(value, low, high, int(found.get("count", 0)))


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _result(entry: Mapping[str, Any]) -> Result:
    truth = parse_truth(entry["truth"])
    counts = {}
    for key in METRICS:
        value = entry["metrics"].get(key)
        wanted = sum(t.attribute == key for t in truth) if key in ATTRIBUTES else 1
        counts[key] = (0.0, 0.0) if value is None else (float(value) * wanted, float(wanted))
    return Result(
        pair=Pair(entry["sample"], entry["initial"], entry["final"]),
        truth=tuple(str(t) for t in truth),
        predictions=tuple(str(p) for p in entry["predictions"]),
        completion=None if entry["completion"] is None else str(entry["completion"]),
        objects=int(entry["objects"]),
        angle=_float(entry["angle"]),
        counts=counts,
        draw=entry.get("draw"),
        finish_reason=entry.get("finish_reason"),
    )

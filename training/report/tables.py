"""What a report says in numbers: tables of metrics, differences, habits, confusions and runs."""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from star_tvr.scenes.errors import DataError
from star_tvr.scenes.world import APPEARANCE
from star_tvr.schemas.dataset import Dataset
from star_tvr.training.answers import parse, parse_triplet, parse_truth
from star_tvr.training.bootstrap import Estimate, estimates, scene_sums
from star_tvr.training.comparison import Comparison, compare
from star_tvr.training.metrics import METRICS, Result
from star_tvr.training.report import plots
from star_tvr.training.report.curves import Figure, is_number
from star_tvr.training.report.folders import Evaluation, TrainingRun

COLUMNS = 6
"""Columns of one table; further ones get another table, or they would not fit on paper."""

ANGLE_BIN = 15
"""Width of the bins of angles between views, in degrees."""

MAX_CATEGORIES = 16
PAPER_METRICS = list(METRICS)[:11]

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"


class Cell(NamedTuple):
    """A figure, what stands below it in small type, and a class for its colour."""

    text: str
    small: str = ""
    kind: str = ""


class Row(NamedTuple):
    """A line of a table; without cells it is a heading."""

    label: str
    cells: Sequence[Cell] = ()


@dataclass(frozen=True)
class Table:
    """A table with a heading, and something small, over each column."""

    columns: Sequence[Cell]
    rows: Sequence[Row]
    caption: str = ""


def number(key: str, value: float, signed: bool = False) -> str:
    """A value of a metric as text: shares in percent with one decimal, others with two.

    >>> number("tacc", 0.614), number("ndiff", 0.305), number("count_gap", -0.5)
    ('61.4', '0.30', '−0.50')
    """
    metric = METRICS[key]
    sign = "+" if signed or key == "count_gap" else ""
    return _minus(f"{100 * value:{sign}.1f}" if metric.percent else f"{value:{sign}.2f}")


def _minus(text: str) -> str:
    # No sign on a zero that was rounded.
    text = text if text.strip("+-0.") else text.lstrip("+-")
    return text.replace("-", MINUS)


def estimate_cell(key: str, estimate: Estimate, signed: bool = False) -> Cell:
    """A value with its interval; a difference that is clear of zero says which way it goes."""
    if estimate.value is None:
        return Cell(NONE)
    text = number(key, estimate.value, signed)
    if estimate.low is None or estimate.high is None:
        return Cell(text)
    low, high = (number(key, x, signed) for x in (estimate.low, estimate.high))
    kind = ""
    if signed and METRICS[key].better and (estimate.low > 0 or estimate.high < 0):
        kind = "better" if (estimate.low > 0) == (METRICS[key].better > 0) else "worse"
    return Cell(text, f"[{low}, {high}]", kind)


def metric_label(key: str) -> str:
    """How a metric is called in a table, with its unit and where better is."""
    metric = METRICS[key]
    arrow = {1: " ↑", -1: " ↓", 0: ""}[metric.better]
    return f"{metric.label.replace('-', MINUS) if key == 'count_gap' else metric.label}" + (
        f", %{arrow}" if metric.percent else arrow
    )


def metric_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """Every evaluation a column."""
    tables = []
    for part in _chunks(evaluations):
        rows = [Row("questions", [Cell(str(e.report.items)) for e in part])]
        if any(e.report.pass_at for e in part):
            rows.append(Row("answers", [Cell(str(len(e.report.results))) for e in part]))
        if any(e.report.missing for e in part):
            rows.append(Row("not answered (wrong)", [Cell(str(e.report.missing)) for e in part]))
        for key in METRICS:
            estimates = [e.report.overall[key] for e in part]
            if key in PAPER_METRICS or any(s.value is not None for s in estimates):
                rows.append(Row(metric_label(key), [estimate_cell(key, s) for s in estimates]))
        for k in sorted({k for e in part for k in e.report.pass_at}):
            nothing = Estimate(None, None, None, 0)
            passed = [e.report.pass_at.get(k, nothing) for e in part]
            rows.append(Row(f"pass@{k}, % ↑", [estimate_cell("tacc", s) for s in passed]))
        tables.append(Table([Cell(e.name, e.split) for e in part], rows))
    return tables


def setting_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """What was asked of whom: everything that `evaluation.json` says."""
    found = []
    for part in _chunks([e for e in evaluations if e.settings]):
        keys = dict.fromkeys(key for e in part for key in e.settings)
        rows = [
            Row(key.replace("_", " "), [Cell(_words(e.settings.get(key))) for e in part])
            for key in keys
        ]
        found.append(Table([Cell(e.name) for e in part], rows))
    return found


def _words(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{k} {v}" for k, v in value.items() if v not in (None, "", {}))
    return NONE if value in (None, "") else str(value)


@dataclass(frozen=True)
class Versus:
    """A later evaluation against the first one of the same questions."""

    first: Evaluation
    later: Evaluation
    comparison: Comparison


def comparisons(evaluations: Sequence[Evaluation], problems: list[str]) -> list[Versus]:
    """Each evaluation against the first one that answered the same questions."""
    first: dict[tuple[str, str], Evaluation] = {}
    found = []
    for later in evaluations:
        if not later.report.results:
            continue
        base = first.setdefault(later.questions, later)
        if base is later:
            continue
        try:
            found.append(Versus(base, later, compare(later.report, base.report)))
        except DataError as problem:
            problems.append(f"{base.name} and {later.name}: {problem}")
    return found


def comparison_tables(versus: Sequence[Versus]) -> list[Table]:
    """Differences of all metrics, and who is right where."""
    tables = []
    for part in _chunks(versus):
        rows = []
        for key in METRICS:
            estimates = [v.comparison.overall[key] for v in part]
            if any(s.value is not None for s in estimates):
                cells = [estimate_cell(key, s, signed=True) for s in estimates]
                rows.append(Row(metric_label(key), cells))
        rows.append(Row("questions answered right"))
        wins = [v.comparison.wins["", ""] for v in part]
        for label, name in (
            ("by both", "both"),
            ("only by the later one", "first"),
            ("only by the earlier one", "second"),
            ("by neither", "neither"),
        ):
            rows.append(Row(label, [Cell(str(getattr(w, name))) for w in wins]))
        heads = [Cell(f"{v.later.name} {MINUS} {v.first.name}", v.later.split) for v in part]
        tables.append(Table(heads, rows))
    return tables


def habit_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """How the models answer, whatever they answer."""
    shares: Mapping[str, Callable[[Result], float | None]] = {
        "silent: names nothing": lambda r: not r.predictions,
        "has no answer block": lambda r: not parse(r.completion or "").answered,
        "enumerates: n_pred > 2 n_gt": lambda r: len(r.predictions) > 2 * len(r.truth),
        "names a triplet twice": lambda r: len(set(r.predictions)) < len(r.predictions),
        "names what is no triplet": lambda r: any(not parse_triplet(p) for p in r.predictions),
        "compares views, same view": lambda r: _looks_across(r, same=True),
        "compares views, other view": lambda r: _looks_across(r, same=False),
    }
    tables = []
    for part in _chunks([e for e in evaluations if e.report.results]):
        rows = []
        for label, indicator in shares.items():
            estimates = [mean_of(e.report.results, indicator) for e in part]
            rows.append(Row(f"{label}, %", [estimate_cell("format", s) for s in estimates]))
        given = [[len(r.predictions) for r in e.report.results] for e in part]
        sizes = [lengths(e.report.results) or [0] for e in part]
        rows.append(
            Row("triplets in an answer, mean", [Cell(f"{statistics.fmean(g):.2f}") for g in given])
        )
        for label, pick in (("median", statistics.median), ("longest", max)):
            cells = [Cell(f"{pick(n):,.0f}") for n in sizes]
            rows.append(Row(f"characters in a completion, {label}", cells))
        tables.append(Table([Cell(e.name, e.split) for e in part], rows))
    return tables


def _looks_across(result: Result, same: bool) -> float | None:
    if (result.pair.initial == result.pair.final) != same:
        return None
    return result.value("compares_views")


def lengths(results: Iterable[Result]) -> list[int]:
    """The lengths of the completions, in characters."""
    return [len(r.completion) for r in results if r.completion is not None]


def mean_of(results: Sequence[Result], indicator: Callable[[Result], float | None]) -> Estimate:
    """The mean over the results where there is a value, with a bootstrap interval over scenes."""
    values = [(result.pair.sample, indicator(result)) for result in results]
    ratios = [[(value or 0, value is not None)] for _, value in values]
    sums = scene_sums([scene for scene, _ in values], np.array(ratios, float).reshape(-1, 1, 2))
    return estimates(sums)[0]


def angle_bin(angle: float) -> tuple[int, str]:
    """The bin an angle between two views is in: its number and its name.

    >>> angle_bin(0.0), angle_bin(41.0), angle_bin(45.0)
    ((0, 'same view'), (3, '30–45°'), (4, '45–60°'))
    """
    if angle < 0.01:
        return 0, "same view"
    start = int(angle // ANGLE_BIN) * ANGLE_BIN
    return start // ANGLE_BIN + 1, f"{start}–{start + ANGLE_BIN}°"


def by_angle(results: Sequence[Result]) -> dict[str, Estimate]:
    """TAcc by the angle between the two views."""
    bins = {angle_bin(r.angle) for r in results if r.angle is not None}
    return {
        name: mean_of(
            [r for r in results if r.angle is not None and angle_bin(r.angle)[1] == name],
            lambda r: r.right,
        )
        for _, name in sorted(bins)
    }


CONDITIONS = {
    "final": "final camera",
    "angle": "angle between the two views",
    "transformations": "number of transformations",
    "objects": "number of visible objects",
}


def condition_values(evaluation: Evaluation, condition: str) -> Mapping[str, Estimate]:
    """TAcc of an evaluation by a condition."""
    if condition == "angle":
        return by_angle(evaluation.report.results)
    members = evaluation.report.groups.get(condition, {})
    return {
        re.sub("(?<=[0-9])-(?=[0-9])", "–", name): estimates["tacc"]
        for name, estimates in members.items()
    }


@dataclass(frozen=True)
class Condition:
    """TAcc by something, as a figure (unless it would be too crowded) and as tables."""

    figure: Figure | None
    tables: Sequence[Table]


def conditions(evaluations: Sequence[Evaluation]) -> list[Condition]:
    """TAcc by final camera, angle, number of transformations and number of objects."""
    found = []
    for key, words in CONDITIONS.items():
        values = [condition_values(e, key) for e in evaluations]
        names = sorted({name for table in values for name in table}, key=_bin_order)
        if not names:
            continue
        shown = values[: plots.MAX_SERIES]
        series = [
            plots.Bars(place, [_percent(table.get(name)) for name in names])
            for place, table in enumerate(shown)
        ]
        title = f"TAcc by {words}"
        tables = [
            Table(
                [Cell(evaluations[k].name) for k in part],
                [Row(name, [_counted(values[k].get(name)) for k in part]) for name in names],
                f"{title}, % [95 % interval], number of questions",
            )
            for part in _chunks(range(len(evaluations)))
        ]
        figure = None
        if len(names) <= MAX_CATEGORIES:
            url = plots.intervals(title, words, names, series)
            figure = Figure(url, f"{title}; the numbers are in the tables below")
        found.append(Condition(figure, tables))
    return found


def _bin_order(name: str) -> tuple[int, int, str]:
    """Bins by their first number after anything without one, and `same view` before all."""
    start = re.match(r"[0-9]+", name)
    return (0 if start is None else 1, int(start[0]) if start else 0, name)


def _percent(estimate: Estimate | None) -> tuple[float, float, float] | None:
    if estimate is None or estimate.value is None:
        return None
    low, high = (estimate.value if x is None else x for x in (estimate.low, estimate.high))
    return 100 * estimate.value, 100 * low, 100 * high


def _counted(estimate: Estimate | None) -> Cell:
    if estimate is None or estimate.value is None:
        return Cell(NONE)
    cell = estimate_cell("tacc", estimate)
    return Cell(cell.text, f"{cell.small} n = {estimate.count}")


@dataclass(frozen=True)
class Confusion:
    """True against predicted values of an attribute.

    Attributes:
        values: of the attribute; they label the rows.
        columns: `values`, `other` if something else was predicted, and `not named`.
        rows: for each true value, count and shade (0 to 1) at each column, and the row's sum.
        swatches: a CSS colour for each value, or nothing.
    """

    attribute: str
    values: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[tuple[int, float]], int]]
    swatches: Mapping[str, str]


def confusion(results: Iterable[Result], attribute: str, dataset: Dataset | None) -> Confusion:
    """What was predicted where object and attribute are right, by the true value.

    True transformations whose object and attribute no prediction names are `not named`. A model
    that gives several values to the same attribute of an object counts with each.
    """
    seen: Counter[tuple[str, str]] = Counter()
    wanted: Counter[str] = Counter()
    for result in results:
        predictions = [parse_triplet(p) for p in result.predictions]
        for truth in parse_truth(result.truth):
            if truth.attribute != attribute:
                continue
            wanted[truth.value] += 1
            named = [
                p.value
                for p in predictions
                if p and (p.object, p.attribute) == (truth.object, attribute)
            ]
            seen.update((truth.value, value) for value in named or [NOT_NAMED])
    if dataset is None:
        values = sorted(wanted)
        swatches = {}
    else:
        values = list(dataset.world.values(attribute))
        swatches = {name: f"rgb{rgb}" for name, rgb in dataset.world.colors.items()}
    known = {*values, NOT_NAMED}
    for (truth_value, value), count in list(seen.items()):
        if value not in known:
            seen[truth_value, OTHER] += count
    columns = [*values, *([OTHER] if any(v == OTHER for _, v in seen) else []), NOT_NAMED]
    rows = []
    for value in values:
        counts = [seen[value, column] for column in columns]
        whole = max(1, sum(counts))
        rows.append(([(count, count / whole) for count in counts], wanted[value]))
    return Confusion(attribute, values, columns, rows, swatches if attribute == "color" else {})


NOT_NAMED, OTHER = "not named", "other"


def confusions(evaluation: Evaluation) -> list[Confusion]:
    """One matrix for each attribute that was transformed."""
    attributes = {t.attribute for r in evaluation.report.results for t in parse_truth(r.truth)}
    order = [a for a in (*APPEARANCE, "position") if a in attributes]
    return [confusion(evaluation.report.results, a, evaluation.dataset) for a in order]


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), COLUMNS):
        yield items[start : start + COLUMNS]


def run_tables(runs: Sequence[TrainingRun]) -> list[Table]:
    """What was trained, how, and how far it got."""
    tables = []
    for part in _chunks(runs):
        rows = []
        for label, tell in RUN_FACTS.items():
            cells = [Cell(str(tell(r) or NONE)) for r in part]
            if any(cell.text != NONE for cell in cells):
                rows.append(Row(label, cells))
        tables.append(Table([Cell(r.name, r.kind.upper()) for r in part], rows))
    return tables


RUN_FACTS: Mapping[str, Callable[[TrainingRun], Any]] = {
    "state": lambda r: state_of(r),
    "model": lambda r: r.config.get("model") or r.state.get("model"),
    "adapter to begin with": lambda r: r.config.get("adapter"),
    "data set": lambda r: r.config.get("dataset"),
    "split": lambda r: r.config.get("split"),
    "LoRA": lambda r: _words(r.config.get("lora") or "no: all weights") if r.kind else "",
    "reward": lambda r: _words(r.config.get("reward")),
    "completions per question": lambda r: r.config.get("num_generations"),
    "batch per device": lambda r: r.config.get("per_device_train_batch_size"),
    "learning rate": lambda r: r.config.get("learning_rate"),
    "seed": lambda r: str(r.config.get("seed", "")),
    "time": lambda r: _time(r.log),
    "versions": lambda r: _words(r.state.get("versions")),
}


def state_of(training: TrainingRun) -> str:
    """Whether a run is done, and how far it got."""
    step = training.state.get("step") or max(
        (line["step"] for line in training.log if is_number(line, "step")), default=0
    )
    if training.state.get("status") == "done":
        return f"done, {step} steps"
    reached = f"last logged step {step}" if step else "no step logged yet"
    return f"not finished, {reached}" if "status" in training.state else reached


def _time(log: Sequence[Mapping[str, Any]]) -> str:
    seconds = [line["train_runtime"] for line in log if is_number(line, "train_runtime")]
    if not seconds:
        return ""
    return f"{seconds[-1]:.0f} s" if seconds[-1] < 600 else f"{seconds[-1] / 3600:.1f} h"

"""TAcc by camera, angle between the views, number of transformations and number of objects."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from star_tvr.training.bootstrap import Estimate
from star_tvr.training.metrics import Result
from star_tvr.training.metrics_report import mean_of
from star_tvr.training.report import plots
from star_tvr.training.report.curves import Figure
from star_tvr.training.report.html_tables import (
    NONE,
    ReportTable,
    TableCell,
    TableRow,
    chunks,
    estimate_cell,
)
from star_tvr.training.report.report_data import Evaluation

ANGLE_BIN = 15
"""Width of the bins of angles between views, in degrees."""

MAX_CATEGORIES = 16

CONDITIONS = {
    "final": "final camera",
    "angle": "angle between the two views",
    "transformations": "number of transformations",
    "objects": "number of visible objects",
}


@dataclass(frozen=True)
class Condition:
    """TAcc by something, as a figure (unless it would be too crowded) and as tables."""

    figure: Figure | None
    tables: Sequence[ReportTable]


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
            ReportTable(
                [TableCell(evaluations[k].name) for k in part],
                [TableRow(name, [_counted(values[k].get(name)) for k in part]) for name in names],
                f"{title}, % [95 % interval], number of questions",
            )
            for part in chunks(range(len(evaluations)))
        ]
        figure = None
        if len(names) <= MAX_CATEGORIES:
            url = plots.intervals(title, words, names, series)
            figure = Figure(url, f"{title}; the numbers are in the tables below")
        found.append(Condition(figure, tables))
    return found


def condition_values(evaluation: Evaluation, condition: str) -> Mapping[str, Estimate]:
    """TAcc of an evaluation by a condition."""
    if condition == "angle":
        return by_angle(evaluation.report.results)
    members = evaluation.report.groups.get(condition, {})
    return {
        re.sub("(?<=[0-9])-(?=[0-9])", "–", name): estimates["tacc"]
        for name, estimates in members.items()
    }


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


def angle_bin(angle: float) -> tuple[int, str]:
    """The bin an angle between two views is in: its number and its name.

    >>> angle_bin(0.0), angle_bin(41.0), angle_bin(45.0)
    ((0, 'same view'), (3, '30–45°'), (4, '45–60°'))
    """
    if angle < 0.01:
        return 0, "same view"
    start = int(angle // ANGLE_BIN) * ANGLE_BIN
    return start // ANGLE_BIN + 1, f"{start}–{start + ANGLE_BIN}°"


def _bin_order(name: str) -> tuple[int, int, str]:
    """Bins by their first number after anything without one, and `same view` before all."""
    start = re.match(r"[0-9]+", name)
    return (0 if start is None else 1, int(start[0]) if start else 0, name)


def _percent(estimate: Estimate | None) -> tuple[float, float, float] | None:
    if estimate is None or estimate.value is None:
        return None
    low, high = (estimate.value if x is None else x for x in (estimate.low, estimate.high))
    return 100 * estimate.value, 100 * low, 100 * high


def _counted(estimate: Estimate | None) -> TableCell:
    if estimate is None or estimate.value is None:
        return TableCell(NONE)
    cell = estimate_cell("tacc", estimate)
    return TableCell(cell.text, f"{cell.small} n = {estimate.count}")

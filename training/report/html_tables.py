"""Tables of a report: cells, and values with their intervals as text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from star_tvr.training.bootstrap import Estimate
from star_tvr.training.metrics import METRICS

T = TypeVar("T")

COLUMNS = 6
"""Columns of one table; further ones get another table, or they would not fit on paper."""

MINUS = "\N{MINUS SIGN}"

NONE = "\N{EN DASH}"


class TableCell(NamedTuple):
    """A figure, what stands below it in small type, and a class for its colour."""

    text: str
    small: str = ""
    kind: str = ""


class TableRow(NamedTuple):
    """A line of a table; without cells it is a heading."""

    label: str
    cells: Sequence[TableCell] = ()


@dataclass(frozen=True)
class ReportTable:
    """A table with a heading, and something small, over each column."""

    columns: Sequence[TableCell]
    rows: Sequence[TableRow]
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


def estimate_cell(key: str, estimate: Estimate, signed: bool = False) -> TableCell:
    """A value with its interval; a difference that is clear of zero says which way it goes."""
    if estimate.value is None:
        return TableCell(NONE)
    text = number(key, estimate.value, signed)
    if estimate.low is None or estimate.high is None:
        return TableCell(text)
    low, high = (number(key, x, signed) for x in (estimate.low, estimate.high))
    kind = ""
    if signed and METRICS[key].better and (estimate.low > 0 or estimate.high < 0):
        kind = "better" if (estimate.low > 0) == (METRICS[key].better > 0) else "worse"
    return TableCell(text, f"[{low}, {high}]", kind)


def metric_label(key: str) -> str:
    """How a metric is called in a table, with its unit and where better is."""
    metric = METRICS[key]
    arrow = {1: " ↑", -1: " ↓", 0: ""}[metric.better]
    return f"{metric.label.replace('-', MINUS) if key == 'count_gap' else metric.label}" + (
        f", %{arrow}" if metric.percent else arrow
    )


def setting_words(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, dict):
        parts = {k: v for k, v in value.items() if v not in (None, "", {})}
        value = ", ".join(
            f"{k} ({setting_words(v)})" if isinstance(v, dict) else f"{k} {v}"
            for k, v in parts.items()
        )
    return NONE if value in (None, "") else str(value)


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at a time as a table has columns."""
    for start in range(0, len(items), COLUMNS):
        yield items[start : start + COLUMNS]

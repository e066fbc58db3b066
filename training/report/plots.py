"""Figures for a page that needs nothing else: small SVG pictures as data URLs.

A figure shows one quantity. Its series differ in colour and in marker; the page says once which
series has which (`key`), so no text of a user gets into a picture but names of categories.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

COLORS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#000000", "#e69f00", "#56b4e9", "#6b6b6b"),
)
"""Told apart by readers with any kind of colour blindness (Okabe and Ito), and on white."""

MARKERS = (
    *(("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆")),
    *(("v", "▼"), ("P", "✚"), ("X", "✖"), ("*", "★")),
)
"""Marker in a figure, and the character that stands for it in text."""

MAX_SERIES = len(COLORS)
MAX_POINTS = 300
"""A longer line is drawn as the means of this many stretches of equal length."""

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "text.parse_math": False,
    "svg.hashsalt": "star-tvr",
}


@dataclass(frozen=True)
class Line:
    """One series of a curve.

    Attributes:
        place: which colour and marker; the same for one run in all figures.
        steps, values: the points. Same length.
        low, high: a band around the line, or nothing. Same length or empty.
    """

    place: int
    steps: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Bars:
    """One series of values with intervals: at each category (value, low, high) or None."""

    place: int
    values: Sequence[tuple[float, float, float] | None]


def key(place: int) -> tuple[str, str]:
    """Colour and character of a series, for a legend in text."""
    return COLORS[place % MAX_SERIES], MARKERS[place % MAX_SERIES][1]


def curves(title: str, label: str, lines: Sequence[Line]) -> str:
    """How a quantity went during training.

    Args:
        title: the quantity.
        label: of the vertical axis, with the unit.
        lines: one for each run.
    """
    with rc_context(STYLE):
        figure, axes = _empty(title, "training step", label)
        for line in lines:
            steps, values = _thin(line.steps), _thin(line.values)
            color, marker = _look(line.place)
            axes.plot(
                *(steps, values),
                color=color,
                marker=marker,
                markersize=4,
                markevery=max(1, len(steps) // 12),
                linewidth=1.4,
                clip_on=False,
            )
            if line.low:
                axes.fill_between(
                    steps, _thin(line.low), _thin(line.high), color=color, alpha=0.15, linewidth=0
                )
        axes.locator_params(axis="x", integer=True, nbins=6)
        if label.endswith("%"):
            axes.set_ylim(0, max(10.0, axes.get_ylim()[1]))
        return url(figure)


def intervals(title: str, label: str, categories: Sequence[str], series: Sequence[Bars]) -> str:
    """A share in percent, with its interval, for each of some categories side by side."""
    with rc_context(STYLE):
        figure, axes = _empty(title, label, "TAcc, %")
        for k, bars in enumerate(series):
            color, marker = _look(bars.place)
            shift = (k - (len(series) - 1) / 2) * 0.6 / max(1, len(series))
            there = [(x + shift, *v) for x, v in enumerate(bars.values) if v is not None]
            if not there:
                continue
            x, value, low, high = np.array(there).T
            axes.errorbar(
                *(x, value),
                yerr=np.abs([value - low, high - value]),
                color=color,
                marker=marker,
                linestyle="none",
                markersize=5,
                capsize=2,
                elinewidth=1,
                clip_on=False,
            )
        axes.set_xticks(range(len(categories)), categories)
        if sum(map(len, categories)) > 36:
            axes.tick_params(axis="x", labelrotation=35)
        axes.set_xlim(-0.6, len(categories) - 0.4)
        axes.grid(False, axis="x")
        axes.set_ylim(0, max(10.0, axes.get_ylim()[1]))
        return url(figure)


def histogram(title: str, label: str, series: Sequence[tuple[int, Sequence[float]]]) -> str:
    """How some quantity is distributed, as outlines of equal area.

    Args:
        title: of the figure.
        label: of the quantity, with its unit; it is drawn to a logarithmic scale if it ranges far.
        series: place and values, none of them negative.
    """
    values = np.concatenate([np.asarray(v, dtype=float) for _, v in series])
    low, high = float(values.min()), float(values.max())
    logarithmic = high > 20 * max(1.0, float(np.median(values)))
    if logarithmic:
        edges = np.geomspace(max(1.0, low), high + 1, 25)
        label += " (logarithmic scale)"
    else:
        edges = np.linspace(low, high if high > low else low + 1, 25)
    with rc_context(STYLE):
        figure, axes = _empty(title, label, "answers, %")
        for place, numbers in series:
            counts, _ = np.histogram(np.clip(numbers, edges[0], None), edges)
            color, marker = _look(place)
            share = 100 * counts / max(1, len(numbers))
            axes.stairs(share, edges, color=color, linewidth=1.4)
            peak = int(np.argmax(share))
            middle = (edges[peak] + edges[peak + 1]) / 2
            axes.plot([middle], [share[peak]], color=color, marker=marker, markersize=5)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
            axes.xaxis.set_minor_formatter(lambda x, _: "")
        axes.set_ylim(bottom=0)
        return url(figure)


def _look(place: int) -> tuple[str, str]:
    return COLORS[place % MAX_SERIES], MARKERS[place % MAX_SERIES][0]


def _empty(title: str, xlabel: str, ylabel: str) -> tuple[Any, Any]:
    figure = Figure(figsize=(3.9, 2.7), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def _thin(values: Sequence[float]) -> list[float]:
    """The values, or means of stretches of them if there are too many to see."""
    if len(values) <= MAX_POINTS:
        return list(values)
    return [float(np.mean(part)) for part in np.array_split(np.asarray(values), MAX_POINTS)]


def url(figure: Any) -> str:
    """A figure of matplotlib as a data URL."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"

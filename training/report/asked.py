"""What a run on fresh data asked about when, and how right the answers were, as a picture."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure as Picture
from pydantic import Field

from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.settings import Integer, Settings
from star_tvr.schemas.files import read_text
from star_tvr.training.report import plots
from star_tvr.training.report.curves import Figure
from star_tvr.training.report.report_data import TrainingRun

TITLES = {
    "objects": "visible objects",
    "changes": "changes",
    "attribute": "attribute that changes",
    "angle": "angle between the views, degrees",
    "size": "smallest changed object, % of width",
    "level": "level",
}


class AskedQuestion(Settings, extra="ignore"):
    """A question in a line of `asked.jsonl`, see `training.curriculum`."""

    right: Annotated[Integer, Field(ge=0)]
    of: Annotated[Integer, Field(ge=1)]
    cell: dict[str, tuple[str, ...]]


class AskedLine(Settings, extra="ignore"):
    """What was asked in a step."""

    step: Annotated[Integer, Field(ge=1)]
    asked: tuple[AskedQuestion, ...]


STRETCHES = 12
"""Most columns of a picture: stretches of steps."""

MOST_ROWS, MOST_TICKS = 100, 14
"""Values of a factor that are drawn, and those that are named."""


def figures(runs: Iterable[TrainingRun]) -> list[Figure]:
    """A picture for every run that has noted what it asked."""
    return [picture(run.name, lines) for run in runs if (lines := _read(run.folder))]


def picture(name: str, lines: Sequence[AskedLine]) -> Figure:
    """For every factor: the share of the questions of each value over the steps, and how right."""
    last = max(line.step for line in lines)
    columns = min(STRETCHES, last)
    asked: dict[str, dict[str, dict[int, list[float]]]] = {}
    totals: dict[int, int] = defaultdict(int)
    for line in lines:
        column = (line.step - 1) * columns // last
        for question in line.asked:
            totals[column] += 1
            for factor, values in question.cell.items():
                for value in values:
                    seen = asked.setdefault(factor, {}).setdefault(value, {})
                    cell = seen.setdefault(column, [0.0, 0.0, 0.0])
                    cell[0] += 1
                    cell[1] += question.right
                    cell[2] += question.of
    known = [factor for factor in TITLES if factor in asked]
    shown = [f for f in known if 1 < len(asked[f]) <= MOST_ROWS] or known[:1]
    heights = [min(MOST_TICKS, max(2, len(asked[f]))) for f in shown]
    with rc_context({**plots.STYLE, "axes.grid": False}):
        figure = Picture(figsize=(9.5, 0.9 * len(shown) + 0.2 * sum(heights)), layout="constrained")
        grid = figure.subplots(len(shown), 2, squeeze=False, gridspec_kw={"height_ratios": heights})
        for axes, factor in zip(grid, shown, strict=True):
            rows = sorted(asked[factor], key=_natural)
            share = np.full((len(rows), columns), np.nan)
            correct = share.copy()
            for row, value in enumerate(rows):
                for column, (count, good, of) in asked[factor][value].items():
                    share[row, column] = 100 * count / totals[column]
                    correct[row, column] = 100 * good / of
            ends = (0.5, last + 0.5, len(rows) - 0.5, -0.5)
            for place, table, title, colors, top in (
                (axes[0], share, f"asked: {TITLES[factor]}", "Blues", max(1.0, np.nanmax(share))),
                (axes[1], correct, "right in full", "viridis", 100.0),
            ):
                drawn = place.imshow(
                    table, cmap=colors, vmin=0, vmax=top, aspect="auto", extent=ends
                )
                place.set_title(title)
                every = -(-len(rows) // MOST_TICKS)
                place.set_yticks(range(0, len(rows), every), rows[::every])
                place.set_xlabel("training step")
                figure.colorbar(drawn, ax=place, label="%")
        url = plots.url(figure)
    return Figure(url, f"{name}: what was asked in {last} steps, and the share of right answers")


def _read(folder: Path) -> list[AskedLine]:
    """The lines of `asked.jsonl` that can be read; a run that goes on may be writing the last."""
    path = folder / "asked.jsonl"
    if not path.is_file():
        return []
    found = []
    for text in read_text(path).splitlines():
        try:
            line = AskedLine.parse(json.loads(text), str(path))
        except (ValueError, RecursionError, ConfigError):
            continue
        if any(question.cell.get(factor) for question in line.asked for factor in TITLES):
            found.append(line)
    return found


def _natural(value: str) -> tuple[bool, float, str]:
    """Numbers by their size, `over N` last, words by the alphabet."""
    number = value.removeprefix("over ")
    is_number = number.replace(".", "", 1).isdecimal()
    return not is_number, float(number) + 0.5 * (number != value) if is_number else 0.0, value

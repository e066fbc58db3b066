"""What is in a data set: how balanced it is, and what its pictures show.

A marginal compares how often each value of a factor occurs with how often it would if nothing was
preferred; a distribution is of numbers. Both become tables for a terminal, figures, and JSON.
"""

import io
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.columns import Columns
from rich.table import Table

from star_tvr.generator.difficulty import view_angle
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.rules import check_plan, move_type
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.transformations import answer_text
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.files import make_folder, write_whole, writing
from star_tvr.schemas.records import Sample

PERCENTILES = (0, 5, 50, 95, 100)
"""Shown of every distribution."""


@dataclass(frozen=True)
class Marginal:
    """How often each value of a factor occurs.

    Attributes:
        name: a short key, also the name of the figure's file.
        title: for people.
        counts: occurrences of every value, in natural order.
        expected: share of each value if nothing was preferred; they add up to 1.
    """

    name: str
    title: str
    counts: Mapping[str, int]
    expected: Mapping[str, float]

    @property
    def total(self) -> int:
        """Number of things counted."""
        return sum(self.counts.values())

    @property
    def imbalance(self) -> float:
        """Total variation distance: the share of all things that would have to be another."""
        total = max(1, self.total)
        return sum(abs(n / total - self.expected[k]) for k, n in self.counts.items()) / 2

    def to_json(self) -> dict[str, Any]:
        """Counts, expected shares and the imbalance."""
        return {
            "counts": dict(self.counts),
            "expected": {k: round(v, 6) for k, v in self.expected.items()},
            "imbalance": round(self.imbalance, 6),
        }


@dataclass(frozen=True)
class Distribution:
    """How some numbers are distributed, in groups that may overlap.

    Attributes:
        name, title: as of a marginal.
        unit: of the numbers.
        groups: the numbers by name of the group; none is empty.
    """

    name: str
    title: str
    unit: str
    groups: Mapping[str, Sequence[float]]

    def percentiles(self, group: str) -> list[float]:
        """The `PERCENTILES` of a group."""
        return [float(x) for x in np.percentile(np.asarray(self.groups[group]), PERCENTILES)]

    def to_json(self) -> dict[str, Any]:
        """Number and percentiles of every group."""
        return {
            "unit": self.unit,
            "groups": {
                group: {
                    "count": len(numbers),
                    "mean": round(float(np.mean(np.asarray(numbers))), 4),
                    "percentiles": {
                        str(p): round(x, 4)
                        for p, x in zip(PERCENTILES, self.percentiles(group), strict=True)
                    },
                }
                for group, numbers in self.groups.items()
            },
        }


@dataclass(frozen=True)
class Stats:
    """Everything that was measured."""

    samples: int
    images: int
    transformations: int
    marginals: tuple[Marginal, ...]
    distributions: tuple[Distribution, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; shares are from 0 to 1."""
        return {
            "samples": self.samples,
            "images": self.images,
            "transformations": self.transformations,
            "marginals": {m.name: m.to_json() for m in self.marginals},
            "distributions": {d.name: d.to_json() for d in self.distributions},
        }


class StatsAccumulator:
    """Takes in samples one at a time; keeps numbers only."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._samples = self._images = 0
        self._counts: dict[str, Counter[str]] = {}
        self._numbers: dict[str, dict[str, array[float]]] = {}
        self._indices: Counter[int] = Counter()
        self._fair_indices: dict[int, float] = {}

    def update(self, sample: Sample) -> None:
        """Count everything about a sample. Raises DataError if it contradicts itself."""
        plan, world = sample.plan, self._dataset.world
        check_plan(plan, world, f"{self._dataset.folder(sample.id) / 'sample.json'}")
        self._samples += 1
        self._images += len(sample.images)
        shown = visible_objects(plan.initial, world)
        self._count("objects", str(len(shown)))
        self._count("transformations", str(len(plan.transformations)))
        states = plan.states(world)
        for t, before, after in zip(plan.transformations, states, states[1:], strict=False):
            self._count("attributes", t.attribute)
            self._count(t.attribute, t.value)
            if t.attribute == "position":
                kind = move_type(before[t.object], after[t.object], world)
                self._count("moves", kind or "unseen")
            self._add_index(t.object, [o.index for o in shown], len(plan.initial))
        self._add_pictures(sample)
        self._number("length", "characters", len(answer_text(plan.transformations)))
        for pair in sample.pairs():
            same = "same camera" if pair.initial == pair.final else "other camera"
            self._number("angle", same, view_angle(sample, pair))

    def _add_index(self, changed: int, shown: Sequence[int], total: int) -> None:
        """An index, and the chance of every index had any of its kind been taken."""
        fixed = len(self._dataset.config.objects.fixed)  # the last of those shown
        able = shown[: len(shown) - fixed]
        if changed not in able:  # it comes in from outside
            able = [k for k in range(total) if k not in set(shown)] or [changed]
        self._indices[changed] += 1
        for k in able:
            self._fair_indices[k] = self._fair_indices.get(k, 0) + 1 / len(able)

    def _add_pictures(self, sample: Sample) -> None:
        plan = sample.plan
        changed = {t.object for t in plan.transformations}
        for image in sample.images:
            state = plan.state(image.state, self._dataset.world)
            for view in image.objects:
                groups = [state[view.index].size]
                if view.index in changed and image.state in ("initial", "final"):
                    groups.append("transformed")
                for group in groups:
                    self._number("pixels", group, view.pixels)
                self._number("visibility", "all objects", 100 * view.visibility)
                if len(groups) == 2:
                    self._number("visibility", "transformed", 100 * view.visibility)

    def _count(self, name: str, value: str) -> None:
        self._counts.setdefault(name, Counter())[value] += 1

    def _number(self, name: str, group: str, value: float) -> None:
        self._numbers.setdefault(name, {}).setdefault(group, array("f")).append(value)

    def compute(self) -> Stats:
        """What the samples taken in so far are like.

        Raises:
            DataError: there were none.
        """
        if not self._samples:
            raise DataError(f"{self._dataset.root}: there are no samples in it; run tvr render")
        config, world = self._dataset.config, self._dataset.world
        attributes = config.transformations.attributes
        marginals = [
            self._marginal("objects", "visible objects at the start", _span(config, "objects")),
            self._marginal(
                "transformations", "number of transformations", _span(config, "transformations")
            ),
            self._marginal("attributes", "attribute that changes", attributes),
            *(self._marginal(a, f"new {a}", world.values(a)) for a in attributes),
            self._index_marginal(),
        ]
        if "position" in attributes:
            kinds = config.transformations.moves
            marginals.append(self._marginal("moves", "kind of move", kinds))
        image = config.image
        distributions = [
            self._distribution(
                "pixels",
                f"visible size in {image.width} x {image.height}",
                "pixels",
                [*sorted(world.sizes, key=world.sizes.__getitem__), "transformed"],
            ),
            self._distribution(
                "visibility", "visible part of an object", "%", ["all objects", "transformed"]
            ),
            self._distribution(
                "angle", "angle between the views", "degrees", ["same camera", "other camera"]
            ),
            self._distribution("length", "length of the answer", "characters", ["characters"]),
        ]
        return Stats(
            samples=self._samples,
            images=self._images,
            transformations=sum(self._indices.values()),
            marginals=tuple(m for m in marginals if m.counts),
            distributions=tuple(d for d in distributions if d.groups),
        )

    def _marginal(self, name: str, title: str, values: Iterable[str]) -> Marginal:
        """A factor whose values should be equally frequent; unforeseen values come last."""
        seen = self._counts.get(name, Counter())
        values = list(dict.fromkeys([*values, *sorted(seen)]))
        counts = {value: seen[value] for value in values} if seen else {}
        return Marginal(name, title, counts, dict.fromkeys(values, 1 / max(1, len(values))))

    def _index_marginal(self) -> Marginal:
        total = sum(self._indices.values())
        indices = range(max(self._fair_indices, default=-1) + 1)
        return Marginal(
            "index",
            "index of the transformed object",
            {str(k): self._indices[k] for k in indices},
            {str(k): self._fair_indices.get(k, 0) / total for k in indices},
        )

    def _distribution(self, name: str, title: str, unit: str, order: Sequence[str]) -> Distribution:
        numbers = self._numbers.get(name, {})
        return Distribution(name, title, unit, {g: numbers[g] for g in order if g in numbers})


def _span(config: DatasetConfig, factor: str) -> list[str]:
    """The numbers that the configuration allows."""
    if factor == "transformations":
        low, high = config.transformations.count
    else:
        low, high = config.objects.visible
        if config.objects.total is not None:
            high = min(high, config.objects.total[1])
    return [str(n) for n in range(low, high + 1)]


# Tables

BAR = 16
"""Width of the longest bar, in characters."""


def tables(stats: Stats) -> list[Table | Columns]:
    """Everything for a terminal."""
    head = Table(
        title=f"{stats.samples} samples, {stats.images} images, "
        f"{stats.transformations} transformations"
    )
    head.add_column("balance of")
    for heading in ("values", "n", "largest difference", "imbalance"):
        head.add_column(heading, justify="right")
    for marginal in stats.marginals:
        head.add_row(marginal.title, str(len(marginal.counts)), *_summary(marginal))
    marginals = Columns(map(_marginal_table, stats.marginals), padding=(1, 3))
    return [head, marginals, _distribution_table(stats)]


def _summary(marginal: Marginal) -> tuple[str, str, str]:
    total = max(1, marginal.total)
    differences = {k: 100 * (n / total - marginal.expected[k]) for k, n in marginal.counts.items()}
    value, largest = max(differences.items(), key=lambda item: abs(item[1]))
    return str(marginal.total), f"{value}: {largest:+.1f} %", f"{100 * marginal.imbalance:.1f} %"


def _marginal_table(marginal: Marginal) -> Table:
    total = max(1, marginal.total)
    shares = {k: n / total for k, n in marginal.counts.items()}
    longest = max(*shares.values(), *marginal.expected.values())
    table = Table(title=marginal.title, title_justify="left")
    table.add_column("value", no_wrap=True)
    for heading in ("n", "share", "even"):
        table.add_column(heading, justify="right")
    table.add_column("│ even", no_wrap=True)
    for value, count in marginal.counts.items():
        even = marginal.expected[value]
        bar = list("█" * round(BAR * shares[value] / longest)).copy()
        bar += " " * (BAR + 1 - len(bar))
        bar[round(BAR * even / longest)] = "│"
        table.add_row(
            value, str(count), f"{100 * shares[value]:.1f} %", f"{100 * even:.1f} %", "".join(bar)
        )
    return table


def _distribution_table(stats: Stats) -> Table:
    table = Table("", "", title="what the pictures and answers are like")
    for heading in ("n", "least", "5 %", "median", "95 %", "most"):
        table.add_column(heading, justify="right")
    for distribution in stats.distributions:
        for group, numbers in distribution.groups.items():
            cells = (f"{x:.0f}" for x in distribution.percentiles(group))
            first = group == next(iter(distribution.groups))
            title = f"{distribution.title}, {distribution.unit}" if first else ""
            table.add_row(
                title, "" if group == distribution.unit else group, str(len(numbers)), *cells
            )
        table.add_section()
    return table


# Figures

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e3e3e3",
    "text.parse_math": False,
}
BLUE, ORANGE = "#0072b2", "#d55e00"
COLORS = (BLUE, "#e69f00", "#009e73", "#000000")
LINES = ("-", "--", "-.", ":")


def figures(stats: Stats) -> dict[str, bytes]:
    """A PNG picture of every marginal and distribution, by name."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        drawn = {m.name: _draw_marginal(m) for m in stats.marginals}
        return drawn | {d.name: _draw_distribution(d) for d in stats.distributions}


def save_figures(stats: Stats, folder: Path) -> list[str]:
    """Write every figure as `NAME.png`; the names of the files.

    Raises:
        DataError: they cannot be written.
    """
    drawn = figures(stats)
    with writing(folder):
        make_folder(folder)
        for name, picture in drawn.items():
            write_whole(folder / f"{name}.png", picture)
    return [f"{name}.png" for name in drawn]


def _draw_marginal(marginal: Marginal) -> bytes:
    total = max(1, marginal.total)
    values = list(marginal.counts)
    figure, axes = _empty(marginal.title, "", "share, %")
    places = np.arange(len(values))
    axes.bar(places, [100 * marginal.counts[v] / total for v in values], color=BLUE, width=0.7)
    even = [100 * marginal.expected[v] for v in values]
    axes.hlines(even, places - 0.45, places + 0.45, color=ORANGE, linewidth=2, label="even")
    axes.set_xticks(places, values)
    if sum(map(len, values)) > 36:
        turned = {"rotation": 60 if len(values) > 10 else 35, "ha": "right"}
        axes.set_xticks(places, values, rotation_mode="anchor", **turned)
        figure.subplots_adjust(bottom=0.36 if len(values) > 10 else 0.24)
    axes.set_ylim(0, 1.4 * max(1, axes.get_ylim()[1]))
    axes.legend(loc="upper right", frameon=False, title=f"n = {total}", alignment="right")
    return _png(figure)


def _draw_distribution(distribution: Distribution) -> bytes:
    figure, axes = _empty(distribution.title, distribution.unit, "share, %")
    everything = np.concatenate([np.asarray(n) for n in distribution.groups.values()])
    low, high = float(everything.min()), float(everything.max())
    wide = distribution.name == "pixels" and high > 50
    if wide:
        edges = np.geomspace(max(1.0, low), high + 1, 31)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        axes.set_xlabel(f"{distribution.unit}; 0 is drawn as 1")
    else:
        edges = np.linspace(min(0.0, low), max(high, low + 1), 31)
    for k, (group, numbers) in enumerate(distribution.groups.items()):
        counts, _ = np.histogram(np.clip(np.asarray(numbers), edges[0], None), edges)
        axes.stairs(
            *(100 * counts / len(numbers), edges),
            color=COLORS[k % len(COLORS)],
            linestyle=LINES[k % len(LINES)],
            linewidth=1.5,
            label=group,
        )
    axes.set_ylim(bottom=0)
    if len(distribution.groups) > 1:
        axes.legend(frameon=False)
    return _png(figure)


def _empty(title: str, xlabel: str, ylabel: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.8))
    figure.subplots_adjust(left=0.13, right=0.98, bottom=0.2, top=0.9)  # "constrained" is slow
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()

"""Metrics and comparisons as tables for a terminal."""

from dataclasses import replace

from rich.table import Table

from star_tvr.training.bootstrap import Estimate
from star_tvr.training.comparison import Comparison
from star_tvr.training.metrics import METRICS
from star_tvr.training.metrics_report import MetricsReport


def score_tables(report: MetricsReport, comparison: Comparison | None = None) -> list[Table]:
    """Everything there is to show of a report, and of a comparison."""
    tables = [metrics_table(report), group_table(report)]
    return tables if comparison is None else [*tables, comparison_table(comparison)]


def evaluation_tables(report: MetricsReport) -> list[Table]:
    """Every metric over all items, and TAcc of each split where there are several."""
    apart = {"split": report.groups["split"]} if "split" in report.groups else {}
    tables = [metrics_table(report)]
    return [*tables, group_table(replace(report, groups=apart))] if apart else tables


def metrics_table(report: MetricsReport) -> Table:
    """Every metric that applies, over all items."""
    items = f"{report.items} items"
    missing = f", {report.missing} of them without a prediction" if report.missing else ""
    if report.pass_at:
        items += f", {len(report.results)} answers"
        missing = f", {report.missing} of them missing" if report.missing else ""
    missing += f", {report.truncated} cut off" if report.truncated else ""
    result = Table("metric", title=items + missing)
    for heading in ("value", "95 % interval", "n"):
        result.add_column(heading, justify="right")
    for key, estimate in report.overall.items():
        if estimate.value is not None:
            result.add_row(METRICS[key].label, *_cells(key, estimate), str(estimate.count))
    for k, estimate in report.pass_at.items():
        result.add_row(f"pass@{k}", *_cells("tacc", estimate), str(estimate.count))
    if report.view_cost:
        cells = _cells("tacc", report.view_cost, signed=True)
        result.add_row("TAcc-ID minus TAcc-OOD, by scene", *cells, str(report.view_cost.count))
    return result


GROUP_COLUMNS = ("object", "pair", "ndiff", "count_gap")


def group_table(report: MetricsReport) -> Table:
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

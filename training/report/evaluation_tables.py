"""What a report says of evaluations: metrics, settings, differences, and how the models answer."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.card import read_blind
from star_tvr.training.answers import parse, parse_triplet
from star_tvr.training.bootstrap import Estimate
from star_tvr.training.comparison import Comparison, compare
from star_tvr.training.metrics import METRICS, Result
from star_tvr.training.metrics_report import mean_of
from star_tvr.training.report.html_tables import (
    MINUS,
    ReportTable,
    TableCell,
    TableRow,
    chunks,
    estimate_cell,
    metric_label,
    number,
    setting_words,
)
from star_tvr.training.report.report_data import Evaluation

PAPER_METRICS = list(METRICS)[:11]


def metric_tables(evaluations: Sequence[Evaluation]) -> list[ReportTable]:
    """Every evaluation a column."""
    tables = []
    for part in chunks(evaluations):
        rows = [TableRow("questions", [TableCell(str(e.report.items)) for e in part])]
        if any(e.report.pass_at for e in part):
            rows.append(TableRow("answers", [TableCell(str(len(e.report.results))) for e in part]))
        if any(e.report.missing for e in part):
            rows.append(
                TableRow("not answered (wrong)", [TableCell(str(e.report.missing)) for e in part])
            )
        for key in METRICS:
            estimates = [e.report.overall[key] for e in part]
            if key in PAPER_METRICS or any(s.value is not None for s in estimates):
                rows.append(TableRow(metric_label(key), [estimate_cell(key, s) for s in estimates]))
        for k in sorted({k for e in part for k in e.report.pass_at}):
            nothing = Estimate(None, None, None, 0)
            passed = [e.report.pass_at.get(k, nothing) for e in part]
            rows.append(TableRow(f"pass@{k}, % ↑", [estimate_cell("tacc", s) for s in passed]))
        tables.append(ReportTable([TableCell(e.name, e.split) for e in part], rows))
    return tables


def blind_tables(evaluations: Sequence[Evaluation], problems: list[str]) -> list[ReportTable]:
    """What can be learnt without the pictures, of every data set that says so in `blind.json`."""
    tables = []
    roots = dict.fromkeys(e.dataset.root.resolve() for e in evaluations if e.dataset)
    for root in roots:
        try:
            found = read_blind(root)
        except DataError as problem:
            problems.append(str(problem))
            continue
        if found is None:
            continue
        rows = []
        for q in found.questions:
            right, low, high, chance = (
                number("tacc", share) for share in (q.right, q.low, q.high, q.chance)
            )
            cells = [TableCell(right, f"[{low}, {high}]"), TableCell(chance)]
            label = f"{q.title} (leaks)" if q.leaks else q.title
            rows.append(TableRow(label, [*cells, TableCell(f"{q.asked:,}")]))
        heads = [TableCell(head) for head in ("right, %", "chance, %", "asked")]
        tables.append(ReportTable(heads, rows, f"{root.name}, {found.samples:,} scenes"))
    return tables


def setting_tables(evaluations: Sequence[Evaluation]) -> list[ReportTable]:
    """What was asked of whom: everything that `evaluation.json` says."""
    found = []
    for part in chunks([e for e in evaluations if e.settings]):
        keys = dict.fromkeys(key for e in part for key in e.settings)
        rows = [
            TableRow(
                key.replace("_", " "), [TableCell(setting_words(e.settings.get(key))) for e in part]
            )
            for key in keys
        ]
        found.append(ReportTable([TableCell(e.name) for e in part], rows))
    return found


@dataclass(frozen=True)
class EvaluationComparison:
    """A later evaluation against the first one of the same questions."""

    first: Evaluation
    later: Evaluation
    comparison: Comparison


def comparisons(
    evaluations: Sequence[Evaluation], problems: list[str]
) -> list[EvaluationComparison]:
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
            found.append(EvaluationComparison(base, later, compare(later.report, base.report)))
        except DataError as problem:
            problems.append(f"{base.name} and {later.name}: {problem}")
    return found


def comparison_tables(versus: Sequence[EvaluationComparison]) -> list[ReportTable]:
    """Differences of all metrics, and who is right where."""
    tables = []
    for part in chunks(versus):
        rows = []
        for key in METRICS:
            estimates = [v.comparison.overall[key] for v in part]
            if any(s.value is not None for s in estimates):
                cells = [estimate_cell(key, s, signed=True) for s in estimates]
                rows.append(TableRow(metric_label(key), cells))
        rows.append(TableRow("questions answered right"))
        wins = [v.comparison.wins["", ""] for v in part]
        for label, name in (
            ("by both", "both"),
            ("only by the later one", "first"),
            ("only by the earlier one", "second"),
            ("by neither", "neither"),
        ):
            rows.append(TableRow(label, [TableCell(str(getattr(w, name))) for w in wins]))
        heads = [TableCell(f"{v.later.name} {MINUS} {v.first.name}", v.later.split) for v in part]
        tables.append(ReportTable(heads, rows))
    return tables


def answer_statistics(evaluations: Sequence[Evaluation]) -> list[ReportTable]:
    """How the models answer, whatever they answer."""
    shares: Mapping[str, Callable[[Result], float | None]] = {
        "empty: names nothing": lambda r: not r.predictions,
        "is cut off at the longest length": lambda r: (
            None if r.finish_reason is None else r.finish_reason == "length"
        ),
        "has no answer block": lambda r: not parse(r.completion or "").answered,
        "enumerates: n_pred > 2 n_gt": lambda r: len(r.predictions) > 2 * len(r.truth),
        "names a triplet twice": lambda r: len(set(r.predictions)) < len(r.predictions),
        "names what is no triplet": lambda r: any(not parse_triplet(p) for p in r.predictions),
    }
    tables = []
    for part in chunks([e for e in evaluations if e.report.results]):
        rows = []
        for label, indicator in shares.items():
            estimates = [mean_of(e.report.results, indicator) for e in part]
            if all(s.value is None for s in estimates):
                continue
            rows.append(TableRow(f"{label}, %", [estimate_cell("format", s) for s in estimates]))
        given = [[len(r.predictions) for r in e.report.results] for e in part]
        sizes = [lengths(e.report.results) or [0] for e in part]
        rows.append(
            TableRow(
                "triplets in an answer, mean",
                [TableCell(f"{statistics.fmean(g):.2f}") for g in given],
            )
        )
        for label, pick in (("median", statistics.median), ("longest", max)):
            cells = [TableCell(f"{pick(n):,.0f}") for n in sizes]
            rows.append(TableRow(f"characters in a completion, {label}", cells))
        tables.append(ReportTable([TableCell(e.name, e.split) for e in part], rows))
    return tables


def lengths(results: Iterable[Result]) -> list[int]:
    """The lengths of the completions, in characters."""
    return [len(r.completion) for r in results if r.completion is not None]

"""One HTML file that shows training runs and evaluations: curves, tables, answers with pictures.

Everything is in the file, pictures and figures as data URLs; it runs no script and loads nothing.
What a model wrote is untrusted: Jinja escapes every text, `visible` shows characters that could
mislead a reader by their code, and the page's own policy forbids browsers to run or load anything.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.files import write_whole
from star_tvr.schemas.records import Pair
from star_tvr.training.report import answer_gallery, asked, curves, evaluation_tables, plots
from star_tvr.training.report.conditions import conditions
from star_tvr.training.report.confusion import confusions
from star_tvr.training.report.html_tables import NONE
from star_tvr.training.report.logged_completions import logged_completions
from star_tvr.training.report.report_data import (
    Evaluation,
    ReportData,
    find_report_data,
)
from star_tvr.training.report.run_tables import run_tables, state_of

TEMPLATE = "report.html.jinja"

ENTRIES = 24
ENTRY_ANSWERS = 4
"""Questions with pictures, and evaluations shown at each."""

FEW = 30
"""Scenes under which the page warns that intervals are rough."""

PUBLISHED = (
    ("GPT-4o", "23.5", ""),
    ("o3", "36.0", ""),
    ("Qwen2.5-VL-7B, untrained", "", "1.50"),
    ("STAR-R1", "61.4", "0.31"),
    ("STAR-R1 without object reward", "58.0", "0.37"),
    ("STAR-R1 without attribute reward", "56.8", "0.40"),
    ("STAR-R1 without the penalty for predicting too few", "58.2", "0.41"),
    ("STAR-R1 without the penalty for wrong predictions", "54.3", "0.44"),
    ("STAR-R1 with the penalty −|n_pred − n_gt|", "54.5", "0.43"),
)
"""TAcc in percent and NDiff, as published in arXiv 2505.15804."""

PUBLISHED_VIEWS = (
    ("TAcc-ID, same view", "84.2", "76.3"),
    ("TAcc-OOD, other view", "30.9", "53.9"),
)
"""TAcc in percent of SFT and RL, from the same source."""


def run(folder: Path, out: Path | None = None) -> Path:
    """Write one HTML file about everything that training and evaluation left under a folder.

    Args:
        folder: a run, an evaluation, or a folder with any number of them at any depth.
        out: the file to write; by default `report.html` in the folder.

    Returns:
        The file.

    Raises:
        DataError: there is nothing to report, or the file cannot be written.
    """
    folder = Path(folder)
    found = find_report_data(folder)
    path = folder / "report.html" if out is None else Path(out)
    html = page(folder, found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, html)
    except OSError as problem:
        raise DataError(f"{path}: cannot be written ({problem.strerror})") from None
    return path


@dataclass(frozen=True)
class Gallery:
    """Questions of one split with what several models said."""

    title: str
    note: str
    entries: Sequence[answer_gallery.GalleryEntry]


def galleries(evaluations: Sequence[Evaluation]) -> list[Gallery]:
    """Failures and some successes on every split, all models side by side."""
    groups: dict[tuple[str, str], list[Evaluation]] = {}
    for evaluation in evaluations:
        if evaluation.report.results:
            groups.setdefault(evaluation.questions, []).append(evaluation)
    found = []
    for members in list(groups.values())[:ENTRIES]:
        last = members[-1]
        shown = (
            members
            if len(members) <= ENTRY_ANSWERS
            else [members[0], *members[1 - ENTRY_ANSWERS :]]
        )
        said = [(e.name, {r.pair: r for r in e.report.results}) for e in shown]
        chosen = answer_gallery.choose(last.report.results, max(1, ENTRIES // len(groups)))
        entries = [
            answer_gallery.gallery_entry(
                result,
                [(name, table[result.pair]) for name, table in said if result.pair in table],
                last.dataset,
                _no_dataset(last),
            )
            for result in chosen
        ]
        wrong = sum(not r.right for r in chosen)
        note = (
            f"{wrong} of the {sum(not r.right for r in last.report.results)} questions that "
            f"{last.name} got wrong, and {len(chosen) - wrong} of the "
            f"{sum(r.right for r in last.report.results)} that it got right."
        )
        found.append(Gallery(last.split, note, entries))
    return found


def _no_dataset(evaluation: Evaluation) -> str:
    if evaluation.dataset is not None:
        return ""
    return f"no pictures: the data set is not at {evaluation.settings.get('dataset')}"


def notices(found: ReportData) -> list[str]:
    """What a reader has to know before believing a figure."""
    said = []
    tiny = [r.name for r in found.runs if r.tiny] + [e.name for e in found.evaluations if e.tiny]
    if tiny:
        which = f" ({', '.join(tiny)})" if len(tiny) < len(found.runs + found.evaluations) else ""
        said.append(
            "The model is the tiny one, built on the spot with random weights: this is a check of "
            f"the machinery, not a result{which}."
        )
    for training in found.runs:
        if training.state.get("status", "done") != "done":
            said.append(f"{training.name}: {state_of(training)}.")
    for evaluation in found.evaluations:
        report = evaluation.report
        if report.missing:
            said.append(
                f"{evaluation.name}: questions without an answer, which count as wrong: "
                f"{report.missing} of {len(report.results)}."
            )
        if evaluation.dataset is None:
            said.append(
                f"{evaluation.name}: its data set is not at "
                f"{evaluation.settings.get('dataset') or 'a known place'}, so there are no "
                "pictures."
            )
    few = [
        e.name
        for e in found.evaluations
        if len({r.pair.sample for r in e.report.results}) < FEW and e.report.results
    ]
    if few:
        said.append(
            f"Fewer than {FEW} scenes were asked about in {', '.join(few)}: the intervals are too "
            "narrow, and where all answers are equally wrong or right they have no width at all."
        )
    return said


def page(folder: Path, found: ReportData) -> str:
    """The HTML text."""
    problems = list(found.problems)
    versus = evaluation_tables.comparisons(found.evaluations, problems)
    blind = evaluation_tables.blind_tables(found.evaluations, problems)
    answered = [e for e in found.evaluations if e.report.results]
    lengths = [
        (k, n)
        for k, e in enumerate(answered[: plots.MAX_SERIES])
        if (n := evaluation_tables.lengths(e.report.results))
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    return environment.get_template(TEMPLATE).render(
        title=folder.resolve().name,
        runs_text=_summary(found),
        dash=NONE,
        notices=notices(found),
        problems=problems,
        evaluations=found.evaluations,
        metric_tables=evaluation_tables.metric_tables(found.evaluations),
        blind_tables=blind,
        settings=evaluation_tables.setting_tables(found.evaluations),
        comparison_tables=evaluation_tables.comparison_tables(versus),
        changes=[_changes(v) for v in versus],
        published=PUBLISHED,
        published_views=PUBLISHED_VIEWS,
        conditions=conditions(answered),
        answered_key=curves.legend(e.name for e in answered),
        hidden=max(0, len(answered) - plots.MAX_SERIES),
        answer_statistics=evaluation_tables.answer_statistics(found.evaluations),
        lengths=plots.histogram("Length of completions", "characters", lengths) if lengths else "",
        confusions=[(e, confusions(e)) for e in answered],
        curves=curves.draw(found.runs),
        asked=asked.figures(found.runs),
        runs=run_tables(found.runs),
        written=[(r, w) for r in found.runs if (w := logged_completions(r))],
        galleries=galleries(found.evaluations),
    )


def _summary(found: ReportData) -> str:
    """What the page is about."""
    counts = (len(found.runs), "training run"), (len(found.evaluations), "evaluation")
    words = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in counts if n]
    return (" and ".join(words) or "Nothing that could be read") + "."


def _changes(versus: evaluation_tables.EvaluationComparison) -> tuple[str, str, str]:
    """Which questions became right and which wrong, as text."""
    better, worse = versus.comparison.only_first, versus.comparison.only_second
    return versus.later.name, _pairs(better), _pairs(worse)


def _pairs(pairs: Sequence[Pair], most: int = 12) -> str:
    words = [f"{p.sample} {p.initial} to {p.final}" for p in pairs[:most]]
    more = [f"{len(pairs) - most} more"] if len(pairs) > most else []
    return "; ".join(words + more) or "none"


_MISLEADING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-"
    "\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
)


def visible(value: Any) -> Any:
    r"""Text with characters that are unseen or change how others are read shown by their code.

    >>> visible("red\u202eder")
    'red[U+202E]der'
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _MISLEADING.sub(lambda match: f"[U+{ord(match[0]):04X}]", value)

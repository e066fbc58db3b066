"""What a policy wrote while it was trained, as TRL logged it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_tvr.scenes.errors import DataError, TvrError
from star_tvr.training.answers import completion_text, parse_truth
from star_tvr.training.parquet_files import open_parquet, read_rows
from star_tvr.training.report.answer_gallery import JudgedAnswer, judge
from star_tvr.training.report.report_data import TrainingRun

COMPLETION_COLUMNS = ("step", "completion", "truth", "sample", "initial", "final")


@dataclass(frozen=True)
class LoggedCompletion:
    """A completion that training logged."""

    step: int
    question: str
    truth: str
    reward: float
    answer: JudgedAnswer


def logged_completions(training: TrainingRun) -> list[LoggedCompletion]:
    """The two best and the worst completion of the first and of the last logged step.

    Completions are logged by TRL, in files of its own form: what is not as expected is left out.
    """
    files = sorted((training.folder / "completions").glob("completions_*.parquet"))
    found = []
    for path in dict.fromkeys(files[:1] + files[-1:]):
        rows = _read_completions(path)
        rows.sort(key=lambda row: -row.reward)
        found += rows[:2] + rows[2:][-1:]
    return found


def _read_completions(path: Path) -> list[LoggedCompletion]:
    try:
        with open_parquet(path) as file:
            read = map(_completion, read_rows(file, COMPLETION_COLUMNS))
            return [row for row in read if row is not None]
    except DataError:
        return []


def _completion(row: Mapping[str, Any]) -> LoggedCompletion | None:
    """What a row says; None if it has another form than TRL's."""
    step, completion, truth, *question = (row.get(key) for key in COMPLETION_COLUMNS)
    if not isinstance(step, int) or not isinstance(truth, str):
        return None
    if not all(isinstance(name, str) for name in question):
        return None
    try:
        text = completion_text(completion)
        answer = judge("", text, [str(t) for t in parse_truth(truth)], None)
    except (TvrError, LookupError, TypeError):
        return None
    sample, initial, final = question
    return LoggedCompletion(step, f"{sample}, {initial} to {final}", truth, answer.reward, answer)

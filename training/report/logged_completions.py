"""What a policy wrote while it was trained, as TRL logged it."""

from dataclasses import dataclass
from pathlib import Path

from star_tvr.scenes.errors import TvrError
from star_tvr.training.answers import completion_text, parse_truth
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
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.read_table(path, columns=list(COMPLETION_COLUMNS)).to_pylist()
    except (ArrowException, OSError):
        return []
    found = []
    for row in rows:
        if any(row.get(key) is None for key in COMPLETION_COLUMNS):
            continue
        try:
            truth = [str(t) for t in parse_truth(row["truth"])]
        except TvrError:
            continue
        answer = judge("", completion_text(row["completion"]), truth, None)
        question = f"{row['sample']}, {row['initial']} to {row['final']}"
        found.append(
            LoggedCompletion(int(row["step"]), question, row["truth"], answer.reward, answer)
        )
    return found

"""What a report says of training runs: what was trained, how, and how far it got."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from star_tvr.training.report.curves import is_number
from star_tvr.training.report.html_tables import (
    NONE,
    ReportTable,
    TableCell,
    TableRow,
    chunks,
    setting_words,
)
from star_tvr.training.report.report_data import TrainingRun


def run_tables(runs: Sequence[TrainingRun]) -> list[ReportTable]:
    """What was trained, how, and how far it got."""
    tables = []
    for part in chunks(runs):
        rows = []
        for label, tell in RUN_FACTS.items():
            cells = [TableCell(str(tell(r) or NONE)) for r in part]
            if any(cell.text != NONE for cell in cells):
                rows.append(TableRow(label, cells))
        tables.append(ReportTable([TableCell(r.name, r.kind.upper()) for r in part], rows))
    return tables


RUN_FACTS: Mapping[str, Callable[[TrainingRun], Any]] = {
    "state": lambda r: state_of(r),
    "model": lambda r: r.config.get("model") or r.state.get("model"),
    "adapter to begin with": lambda r: r.config.get("adapter"),
    "data set": lambda r: r.config.get("dataset"),
    "split": lambda r: r.config.get("split"),
    "fresh data": lambda r: setting_words(r.config.get("fresh")),
    "LoRA": lambda r: setting_words(r.config.get("lora") or "no: all weights") if r.kind else "",
    "reward": lambda r: setting_words(r.config.get("reward")),
    "completions per question": lambda r: r.config.get("num_generations"),
    "batch per device": lambda r: r.config.get("per_device_train_batch_size"),
    "learning rate": lambda r: r.config.get("learning_rate"),
    "seed": lambda r: str(r.config.get("seed", "")),
    "best checkpoint": lambda r: setting_words(r.state.get("best")),
    "time": lambda r: _time(r.log),
    "versions": lambda r: setting_words(r.state.get("versions")),
}


def state_of(training: TrainingRun) -> str:
    """Whether a run is done, and how far it got."""
    step = training.state.get("step") or max(
        (line["step"] for line in training.log if is_number(line, "step")), default=0
    )
    if training.state.get("status") == "done":
        return f"done, {step} steps"
    reached = f"last logged step {step}" if step else "no step logged yet"
    return f"not finished, {reached}" if "status" in training.state else reached


def _time(log: Sequence[Mapping[str, Any]]) -> str:
    seconds = [line["train_runtime"] for line in log if is_number(line, "train_runtime")]
    if not seconds:
        return ""
    return f"{seconds[-1]:.0f} s" if seconds[-1] < 600 else f"{seconds[-1] / 3600:.1f} h"

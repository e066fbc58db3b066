"""Training curves: which quantities of a run's log are drawn, and how."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from star_tvr.training.report import plots
from star_tvr.training.report.html_tables import MINUS
from star_tvr.training.report.report_data import TrainingRun


@dataclass(frozen=True)
class Figure:
    """A picture of a quantity, and what it shows in words."""

    url: str
    words: str


class Panel(NamedTuple):
    """A quantity of the log.

    Attributes:
        key: in the log.
        title, label: of the figure and of its vertical axis.
        band: what is drawn around the line when there are at most two runs: the key of its
            standard deviation, `completions/`, or INTERVAL.
        scale: the values are multiplied by it.
    """

    key: str
    title: str
    label: str
    band: str = ""
    scale: float = 1


MOST_OWN = 8
"""Rewards of the user's own that are drawn."""

INTERVAL = "interval"
"""A band from `KEY_low` to `KEY_high`."""

PANELS = (
    Panel("eval_tacc", "Right in full, validation (TAcc)", "share, %", INTERVAL, 100),
    Panel("eval_reward", "Reward, validation", "points", INTERVAL),
    Panel("eval_count_gap", f"n_pred {MINUS} n_gt, validation", "triplets, mean", INTERVAL),
    Panel("eval_truncated", "Answers cut off, validation", "share, %", scale=100),
    Panel("reward", "Reward, total", "points", "reward_std"),
    Panel("rewards/accuracy_reward/mean", "Reward of the answer (accuracy)", "points"),
    Panel("rewards/format_reward/mean", "Reward of the form (format)", "points"),
    Panel("rewards/reference_reward/mean", "Reward of the statements", "points"),
    Panel("rewards/consistency_reward/mean", "Reward of agreeing views", "points"),
    Panel("rewards/grounding_reward/mean", "Reward of the boxes", "points"),
    Panel("statements/true", "True statements", "per completion"),
    Panel("statements/false", "False statements", "per completion"),
    Panel("statements/unparsed", "Statements not understood", "per completion"),
    Panel("tacc", "Right in full, as sampled", "share, %", scale=100),
    Panel("loss", "Loss", "loss"),
    Panel("eval_loss", "Loss on the evaluation split", "loss"),
    Panel("count_gap", f"n_pred {MINUS} n_gt", "triplets, mean"),
    Panel("empty", "Empty completions", "share, %", scale=100),
    Panel("enumerating", "Enumerating completions", "share, %", scale=100),
    Panel("completions/mean_length", "Length of completions", "tokens", "completions/"),
    Panel("completions/clipped_ratio", "Completions cut off", "share, %", scale=100),
    Panel("mean_token_accuracy", "Tokens predicted right", "share, %", scale=100),
    Panel("learning_rate", "Learning rate", "learning rate"),
    Panel("grad_norm", "Norm of the gradient", "norm"),
    Panel("entropy", "Entropy of the policy", "nats per token"),
    Panel("kl", "Divergence from the reference (KL)", "nats per token"),
    Panel("frac_reward_zero_std", "Groups with equal rewards", "share, %", scale=100),
    Panel("step_time", "Time of a step", "seconds"),
    Panel("tokens_per_second", "Speed of training", "tokens per second"),
    Panel("wait", "Waiting for samples", "share of the time, %", scale=100),
    Panel("ahead", "Samples ahead of the training", "samples"),
    Panel("samples_per_second", "Speed of rendering", "samples per second"),
    Panel("render_cpu", "Rendering of a question", "CPU seconds"),
    Panel("disk_bytes", "Samples on the disk", "MB", scale=1e-6),
)


@dataclass(frozen=True)
class Curves:
    """Figures of all runs of one kind, and how to read them."""

    title: str
    key: Sequence[tuple[str, str, str]]
    figures: Sequence[Figure]
    note: str


def draw(runs: Sequence[TrainingRun]) -> list[Curves]:
    """Training curves; runs of one kind share their figures."""
    found = []
    for kind, title in (("sft", "SFT"), ("grpo", "GRPO"), ("", "Training")):
        members = [r for r in runs if (r.kind if r.kind in ("sft", "grpo") else "") == kind]
        members = [r for r in members if any("step" in line for line in r.log)]
        shown = members[: plots.MAX_SERIES]
        figures = [f for panel in _panels(shown) if (f := _figure(panel, shown)) is not None]
        if not figures:
            continue
        notes = []
        if len(shown) <= 2 and kind == "grpo":
            notes.append(
                "The bands of training are the standard deviation of the reward, and the shortest "
                "and longest completion."
            )
        if len(shown) <= 2 and any("eval_tacc_low" in line for r in shown for line in r.log):
            notes.append("The bands of validation are 95 % bootstrap intervals.")
        if any(len(r.log) > plots.MAX_POINTS for r in shown):
            notes.append(f"Long runs are drawn as {plots.MAX_POINTS} means.")
        if len(members) > len(shown):
            notes.append(f"Only the first {len(shown)} of {len(members)} runs are drawn.")
        found.append(Curves(title, legend(r.name for r in shown), figures, " ".join(notes)))
    return found


def _panels(runs: Sequence[TrainingRun]) -> list[Panel]:
    """The panels, and after those of rewards one for each reward of the user's own."""
    known = {panel.key for panel in PANELS}
    logged = dict.fromkeys(key for run in runs for line in run.log for key in line)
    found = (re.fullmatch(r"rewards/([A-Za-z_][A-Za-z0-9_]{0,60})/mean", key) for key in logged)
    own = [Panel(m[0], f"Reward {m[1]}", "points") for m in found if m and m[0] not in known]
    place = 1 + max(k for k, panel in enumerate(PANELS) if panel.key.startswith("rewards/"))
    return [*PANELS[:place], *own[:MOST_OWN], *PANELS[place:]]


def legend(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Colour, character and name of every series that is drawn."""
    return [(*plots.key(k), name) for k, name in enumerate(names) if k < plots.MAX_SERIES]


def _figure(panel: Panel, runs: Sequence[TrainingRun]) -> Figure | None:
    lines, words = [], []
    for place, training in enumerate(runs):
        logged = [
            line for line in training.log if is_number(line, "step") and is_number(line, panel.key)
        ]
        if not logged:
            continue
        values = [panel.scale * line[panel.key] for line in logged]
        low, high = _band(panel, logged) if len(runs) <= 2 else ([], [])
        lines.append(plots.Line(place, [line["step"] for line in logged], values, low, high))
        words.append(f"{training.name}: {values[0]:.3g} at first, {values[-1]:.3g} at last")
    if not lines:
        return None
    url = plots.curves(panel.title, panel.label, lines)
    return Figure(url, f"{panel.title}, {panel.label}. {'; '.join(words)}")


def _band(
    panel: Panel, logged: Sequence[Mapping[str, Any]]
) -> tuple[Sequence[float], Sequence[float]]:
    if panel.band == "completions/":
        keys = ("completions/min_length", "completions/max_length")
        if all(is_number(line, key) for line in logged for key in keys):
            return [line[keys[0]] for line in logged], [line[keys[1]] for line in logged]
    elif panel.band == INTERVAL:
        keys = (f"{panel.key}_low", f"{panel.key}_high")
        if all(is_number(line, key) for line in logged for key in keys):
            low, high = ([panel.scale * line[key] for line in logged] for key in keys)
            return low, high
    elif panel.band and all(is_number(line, panel.band) for line in logged):
        pairs = [(line[panel.key], line[panel.band]) for line in logged]
        return [v - s for v, s in pairs], [v + s for v, s in pairs]
    return [], []


def is_number(line: Mapping[str, Any], key: str) -> bool:
    """Whether a line of a log gives a number for a key."""
    value = line.get(key)
    return isinstance(value, int | float) and not isinstance(value, bool)

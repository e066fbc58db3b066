"""What a policy's own results decide about the scenes that it is asked about next.

`aim` asks more about what there is most to learn from, p (1 - p) with p the share of right answers
to a question (LILO, arXiv 2502.12272); `levels` opens the next level when the highest one is
answered right (RLVE, arXiv 2511.07317); `easy-first` goes through all levels, whatever the results.
A decision holds for samples that nobody can have planned yet, so it takes effect `ahead` samples
later.

`asked.jsonl` in the run's folder says what was asked in every step, and how many answers were
right. The decisions are in `curriculum.jsonl` in the folder of the data. After an interruption what
was decided before holds, so the questions are the same again.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from star_tvr.scenes.curriculum import Weights, level_order, question_cell
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.dataset import dumps_line
from star_tvr.schemas.files import write_whole, writing
from star_tvr.schemas.records import Pair
from star_tvr.schemas.stream import Decision
from star_tvr.training.config import FreshConfig
from star_tvr.training.fresh_dataset import FreshDataset
from star_tvr.training.reward_logging import right_in_full
from star_tvr.training.rewards import RewardFunction

FACTORS = ("objects", "changes", "attribute", "angle", "size")
"""What `aim` weights, each by itself."""

PRIOR = 8.0
"""Questions at the mean of all that every value is taken to have been asked."""

FORGET = 0.5
"""What is left of earlier results with every decision."""

LEAST, MOST = 0.1, 10.0
"""Bounds of a weight."""

WINDOW = 4
"""Levels that are open at a time."""

ENOUGH, MASTERED = 8, 0.9
"""Questions of the highest level, and the share of right answers, that open the next one."""


class Curriculum:
    """The decisions of one run, made by its main process after the results of all."""

    def __init__(self, fresh: FreshConfig, dataset: FreshDataset, folder: Path) -> None:
        self.fresh, self.dataset, self.path = fresh, dataset, folder / "asked.jsonl"
        self.sampler = Sampler.from_config(dataset.config)
        self.levels = len(level_order(self.sampler.balance))
        self.level = 0
        self.tallies: dict[str, dict[str, list[float]]] = {}
        self.highest = [0.0, 0.0]
        """Questions of the highest open level, and the sum of their right shares, so far."""
        self.pending: list[tuple[Pair, bool]] = []

    def begin(self, step: int) -> None:
        """Go back to where the run was after a step; before the first one, fix what is fixed."""
        lines = _read(self.path)
        kept = [line for line in lines if line["step"] <= step]
        if self.fresh.schedule in ("aim", "levels"):
            with writing(self.path):
                write_whole(self.path, "".join(map(dumps_line, kept)))
        if self.fresh.schedule == "easy-first" and not self.dataset.stream.decisions():
            end = self.dataset.end
            self.dataset.stream.add_decisions(
                self._decision(k, 0, k * end // self.levels, self._window(k))
                for k in range(self.levels)
            )
        by_step: dict[int, Any] = {line["step"]: line["asked"] for line in kept}
        for past in range(1, step + 1):
            self._learn(by_step.get(past, ()))
            self._move_on(past)

    def listen(self, reward: RewardFunction) -> RewardFunction:
        """The same reward function, which also notes which answers were right."""

        def heard(completions: Sequence[Any], **columns: Any) -> list[float | None]:
            names = zip(*(columns[k] for k in ("sample", "initial", "final")), strict=True)
            right = right_in_full(completions, columns["truth"])
            self.pending += zip((Pair(*n) for n in names), right, strict=True)
            return reward(completions, **columns)

        heard.__name__ = reward.__name__
        return heard

    def step_end(self, step: int, first: int, main: bool) -> None:
        """Gather the results of a step, and decide if it is time. All processes call it.

        Args:
            step: that has ended.
            first: the first sample that nobody can have planned yet.
            main: whether this is the main process, which writes.
        """
        from accelerate.utils import gather_object

        answers, self.pending = gather_object(self.pending), []
        if not main:
            return
        asked = self._asked(answers)
        if asked:
            with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
                file.write(dumps_line({"step": step, "asked": asked}))
        self._learn(asked)
        if (weights := self._move_on(step)) is not None:
            decisions = self.dataset.stream.decisions()
            # What was decided before an interruption holds.
            if first < self.dataset.end and all(d.step < step for d in decisions):
                number = len(decisions)
                made = self._decision(number, step, first, weights)
                self.dataset.stream.add_decisions([made])

    def weights(self) -> Weights:
        """How much more often each value is to be asked about than by chance."""
        if self.fresh.schedule == "levels":
            return self._window(self.level)
        found: dict[str, dict[str, float]] = {}
        for factor in FACTORS:
            table = self.tallies.get(factor, {})
            total = sum(n for n, _ in table.values())
            mean = sum(gain for _, gain in table.values()) / total if total else 0.0
            if mean > 0:
                found[factor] = {
                    value: _bounded((gain + PRIOR * mean) / (n + PRIOR) / mean)
                    for value, (n, gain) in sorted(table.items())
                }
        return found

    def _asked(self, answers: Iterable[tuple[Pair, bool]]) -> list[dict[str, Any]]:
        """Every question with its cell, its answers and how many of them were right."""
        groups: dict[Pair, list[bool]] = defaultdict(list)
        for pair, right in answers:
            groups[pair].append(right)
        world, balance = self.dataset.world, self.sampler.balance
        asked = []
        for pair, answered in groups.items():
            plan = self.dataset.sample(pair.sample).plan
            cell = question_cell(plan, (pair.initial, pair.final), world, balance)
            number = {} if plan.decision is None else {"decision": plan.decision}
            counts = {"right": sum(answered), "of": len(answered)}
            asked.append({**pair.to_json(), **number, **counts, "cell": cell})
        return asked

    def _learn(self, asked: Iterable[Mapping[str, Any]]) -> None:
        for question in asked:
            right, of = question["right"], question["of"]
            gain = right * (of - right) / (of * max(1, of - 1))  # p (1 - p) without bias
            for factor, values in question["cell"].items():
                for value in values:
                    tally = self.tallies.setdefault(factor, {}).setdefault(value, [0.0, 0.0])
                    tally[0] += 1
                    tally[1] += gain
            if question["cell"]["level"] == [str(self.level)]:
                self.highest[0] += 1
                self.highest[1] += right / of

    def _move_on(self, step: int) -> Weights | None:
        """Decide if it is time: open a level, choose weights, forget a little."""
        if self.fresh.schedule not in ("aim", "levels") or step % self.fresh.every:
            return None
        count, right = self.highest
        if count >= ENOUGH and right >= MASTERED * count and self.level < self.levels - 1:
            self.level += 1
            self.highest = [0.0, 0.0]
        chosen = self.weights()
        for table in self.tallies.values():
            for tally in table.values():
                tally[:] = [FORGET * part for part in tally]
        return chosen

    def _window(self, highest: int) -> Weights:
        low = max(0, highest - WINDOW + 1)
        return {"level": {str(k): float(low <= k <= highest) for k in range(self.levels)}}

    def _decision(self, number: int, step: int, first: int, weights: Weights) -> Decision:
        return Decision(
            decision=number,
            step=step,
            first=first,
            schedule=self.fresh.schedule,
            views=self.dataset.views,
            pairs=self.dataset.each,
            weights={factor: dict(table) for factor, table in weights.items()},
        )


def _bounded(weight: float) -> float:
    return round(min(MOST, max(LEAST, weight)), 6)


def _read(path: Path) -> list[Any]:
    """The lines of a file; a last one that was cut off is left out."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")]

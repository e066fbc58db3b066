"""What a table or trees can guess of plans and should not: figures of docs/planning-notes.md.

    python tests/benchmarks/bench_independence.py [--samples 300 1000 10000] [--blind FOLDER …]

The table knows the number of visible objects and the first (object, attribute) of a sample, and
perhaps the number of changes; it says the others. It learns from 70 % of the samples and is asked
about the rest, and, for chance, about the same part of data sets of other seeds. Of several seeds
the mean is shown, and the number of changes for which its own are most surely told better.
`--blind` shows `blind.json` of data sets.
"""

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from rich.console import Console

from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.card import read_blind
from star_tvr.schemas.config import load_config, preset_names
from star_tvr.training.blind import blind_table

Question = tuple[int, int, tuple[int, str], tuple[tuple[int, str], ...]]
"""Of a task: visible objects, number of changes, the first change, and the others in order."""

ENOUGH = 30
"""Right guesses about other data sets from which a ratio says something."""

OTHERS = 3
"""Data sets of other seeds that a table is asked about for chance."""


def questions(sampler: Sampler, seed: int, number: int) -> list[Question]:
    """What is asked of the samples with several changes of the data set of another seed."""
    config = sampler.config.model_copy(update={"seed": seed})
    balance = replace(sampler.balance, seed=config.scene_seed)
    found = []
    for task in map(balance.task, range(number)):
        first, *rest = [(t.object, t.attribute) for t in task.transformations]
        if rest:
            found.append((task.visible, 1 + len(rest), first, tuple(sorted(rest))))
    return found


@dataclass
class Score:
    """How often a table was right about its own data set and about others."""

    own: int = 0
    asked: int = 0
    other: int = 0
    asked_other: int = 0

    def shares(self) -> tuple[float, float]:
        """Right of its own, and of others: chance."""
        return self.own / self.asked, self.other / self.asked_other

    def ratio(self) -> tuple[float, float, float]:
        """The first over the second, and the ends of its 95 % interval (Poisson, logarithms)."""
        own, chance = self.shares()
        spread = 1.96 * math.sqrt(1 / max(1, self.own) + 1 / max(1, self.other))
        ratio = own / max(chance, 1e-9)
        return ratio, ratio * math.exp(-spread), ratio * math.exp(spread)


def scores(data: Sequence[Sequence[Question]], with_count: bool) -> dict[int, Score]:
    """The score for every number of changes; under 0 all together."""
    result: dict[int, Score] = defaultdict(Score)
    for seed, mine in enumerate(data):
        cut = 7 * len(mine) // 10
        table: dict[object, Counter[object]] = defaultdict(Counter)
        for visible, count, first, rest in mine[:cut]:
            table[visible, with_count and count, first][rest] += 1
        known = {key: counts.most_common(1)[0][0] for key, counts in table.items()}
        for shift in range(min(1 + OTHERS, len(data))):
            for visible, count, first, rest in data[(seed + shift) % len(data)][cut:]:
                right = known.get((visible, with_count and count, first)) == rest
                for score in (result[0], result[count]):
                    if shift:
                        score.other, score.asked_other = score.other + right, score.asked_other + 1
                    else:
                        score.own, score.asked = score.own + right, score.asked + 1
    return dict(sorted(result.items()))


def lookup(presets: Sequence[str], numbers: Sequence[int], tasks: int) -> Iterator[str]:
    """Lines of a table in Markdown: own and other data sets, where several things change."""
    yield "| preset | samples | count known | chance | unknown | chance | largest ratio |"
    yield "|---|---|---|---|---|---|---|"
    for preset in presets:
        sampler = Sampler.from_config(load_config(preset))
        for number in numbers:
            seeds = max(4, tasks // number)
            data = [questions(sampler, seed, number) for seed in range(seeds)]
            if not any(data):
                continue
            both = [scores(data, with_count) for with_count in (True, False)]
            cells = [f"{100 * share:.1f} %" for score in both for share in score[0].shares()]
            ratios = [
                (*s.ratio(), n)
                for score in both
                for n, s in score.items()
                if n and s.other >= ENOUGH
            ]
            ratio, low, high, count = max(ratios, key=lambda r: r[1], default=(math.nan,) * 4)
            yield (
                f"| {preset} | {number} | {' | '.join(cells)} "
                f"| {count}: {ratio:.2f} ({low:.2f} to {high:.2f}) |"
            )


def shared(presets: Sequence[str], number: int) -> int:
    """How many scenes of the first ones of all presets, at one seed, stand at equal places."""
    places = []
    for preset in presets:
        sampler = Sampler.from_config(load_config(preset))
        plans = (sampler.plan(i) for i in range(number))
        places.append({tuple((o.x, o.y, o.rotation) for o in plan.initial) for plan in plans})
    return sum(len(a & b) for a, b in combinations(places, 2))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=preset_names())
    parser.add_argument("--samples", type=int, nargs="+", default=[300, 1000, 10_000])
    parser.add_argument("--tasks", type=int, default=40_000, help="of every row, at least 4 seeds")
    parser.add_argument("--scenes", type=int, default=100, help="of each preset to compare")
    parser.add_argument("--blind", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    for line in lookup(options.presets, options.samples, options.tasks):
        print(line, flush=True)
    if options.scenes:
        both = shared(options.presets, options.scenes)
        print(f"{options.scenes} scenes of each preset at seed 0: {both} shared")
    console = Console(width=110)
    for folder in options.blind:
        found = read_blind(folder)
        if found is not None:
            print(folder)
            console.print(blind_table(found))


if __name__ == "__main__":
    main()

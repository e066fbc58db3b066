"""What a table or trees can guess of plans that they should not: the figures of docs/planning.md.

    python tests/benchmarks/bench_independence.py [--samples 300 1000 10000] [--blind FOLDER …]

The table knows the number of visible objects and the first (object, attribute) of a sample, and
perhaps the number of changes; it says the others. It learns from 70 % of the samples and is asked
about the rest, and, for comparison, about a data set of another seed, of which it knows no more
than chance. Of several seeds the mean is shown. `--blind` shows `blind.json` of data sets.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from rich.console import Console
from rich.table import Table

from star_tvr.scenes.balance import Task
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.card import read_blind
from star_tvr.schemas.config import load_config, preset_names
from star_tvr.training.blind import blind_table


def tasks(preset: str, seed: int, number: int) -> list[Task]:
    """The tasks of a data set that have several changes, in an order of chance."""
    balance = Sampler.from_config(load_config(preset, [f"seed={seed}"])).balance
    return [t for t in map(balance.task, range(number)) if len(t.transformations) > 1]


def guessed(train: Sequence[Task], asked: Sequence[Task], with_count: bool) -> float:
    """The share of `asked` whose other changes the table of `train` names."""
    table: dict[object, Counter[object]] = defaultdict(Counter)

    def question(task: Task) -> object:
        first = task.transformations[0]
        count = len(task.transformations) if with_count else 0
        return task.visible, count, first.object, first.attribute

    def rest(task: Task) -> object:
        return tuple(sorted((t.object, t.attribute) for t in task.transformations[1:]))

    for task in train:
        table[question(task)][rest(task)] += 1
    right = [
        question(t) in table and table[question(t)].most_common(1)[0][0] == rest(t) for t in asked
    ]
    return sum(right) / max(1, len(right))


def lookup(presets: Sequence[str], numbers: Sequence[int]) -> Table:
    """Own and other data set, for every preset that has several changes."""
    result = Table("preset", "samples", title="what follows the first change: own data, other seed")
    for heading in ("count known", "(chance)", "count unknown", "(chance)"):
        result.add_column(heading, justify="right")
    for preset in presets:
        for number in numbers:
            seeds = max(2, min(16, 10_000 // number))
            data = [tasks(preset, seed, number) for seed in range(seeds)]
            if not data[0]:
                continue
            cells = []
            for with_count in (True, False):
                own = other = 0.0
                for seed, plans in enumerate(data):
                    cut = 7 * len(plans) // 10
                    own += guessed(plans[:cut], plans[cut:], with_count) / seeds
                    rest = data[(seed + 1) % seeds][cut:]
                    other += guessed(plans[:cut], rest, with_count) / seeds
                cells += [f"{100 * own:.1f} %", f"({100 * other:.1f} %)"]
            result.add_row(preset, str(number), *cells)
    return result


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
    parser.add_argument("--samples", type=int, nargs="+", default=[300, 1000, 10_000])
    parser.add_argument("--scenes", type=int, default=100, help="of each preset to compare")
    parser.add_argument("--blind", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    console = Console(width=110)
    names = preset_names()
    console.print(lookup(names, options.samples))
    print(
        f"{options.scenes} scenes of each preset at seed 0: {shared(names, options.scenes)} shared"
    )
    for folder in options.blind:
        found = read_blind(folder)
        if found is not None:
            print(folder)
            console.print(blind_table(found))


if __name__ == "__main__":
    main()

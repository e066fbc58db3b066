"""Two sets of answers to the same questions: differences of all metrics, and who is right where."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Pair
from star_tvr.training.metrics import Result
from star_tvr.training.metrics_report import (
    Estimates,
    MetricsReport,
    by_pair,
    estimate_metrics,
    estimates_to_json,
    grouped,
    score_file,
)


@dataclass(frozen=True)
class WinCounts:
    """On how many items who is right (TAcc), or more often right where there are several answers.

    Attributes:
        both, neither: as often, and at least once, or never.
        first, second: this one more often.
    """

    both: int
    first: int
    second: int
    neither: int


@dataclass(frozen=True)
class Comparison:
    """Two sets of answers to the same questions.

    Attributes:
        overall, groups: the first minus the second, with the interval of that difference.
        wins: who is right, over all items (`""`, `""`) and in every (group, member).
        only_first, only_second: the questions that only one of them got right, or more often.
    """

    overall: Estimates
    groups: Mapping[str, Mapping[str, Estimates]]
    wins: Mapping[tuple[str, str], WinCounts]
    only_first: tuple[Pair, ...]
    only_second: tuple[Pair, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; differences of shares are from -1 to 1."""
        return {
            "difference": estimates_to_json(self.overall),
            "wins": asdict(self.wins["", ""]),
            "by": {
                group: {
                    name: {
                        "difference": estimates_to_json(values),
                        "wins": asdict(self.wins[group, name]),
                    }
                    for name, values in members.items()
                }
                for group, members in self.groups.items()
            },
            "only_first": [pair.to_json() for pair in self.only_first],
            "only_second": [pair.to_json() for pair in self.only_second],
        }


def score_files(
    predictions: Path,
    dataset: Dataset,
    split: str | Sequence[str] | None = None,
    against: Path | None = None,
) -> tuple[MetricsReport, Comparison | None]:
    """Score a file of predictions, and compare it with another one if there is one.

    Raises:
        DataError: see `score_file` and `compare`.
    """
    report = score_file(predictions, dataset, split)
    if against is None:
        return report, None
    return report, compare(report, score_file(against, dataset, split))


def compare(first: MetricsReport, second: MetricsReport) -> Comparison:
    """Compare two sets of answers item by item (paired bootstrap over scenes).

    Each of them may have several answers to an item; they need not be as many.

    Raises:
        DataError: the two do not answer the same questions.
    """
    theirs = by_pair(second.results)
    mine_right, theirs_right = (
        {pair: sum(r.right for r in answers) / len(answers) for pair, answers in table.items()}
        for table in (by_pair(first.results), theirs)
    )
    if mine_right.keys() != theirs.keys():
        raise DataError(
            f"the two sets of predictions answer different questions "
            f"({first.items} and {second.items} items); score both on one split"
        )

    def pairs_of(mine: Sequence[Result]) -> Iterable[Pair]:
        return dict.fromkeys(result.pair for result in mine)

    def difference(mine: Sequence[Result]) -> Estimates:
        return estimate_metrics(
            mine, [result for pair in pairs_of(mine) for result in theirs[pair]]
        )

    def wins(mine: Sequence[Result]) -> WinCounts:
        seen: Counter[str] = Counter()
        for pair in pairs_of(mine):
            ours, other = mine_right[pair], theirs_right[pair]
            equal = "both" if ours else "neither"
            seen["first" if ours > other else "second" if ours < other else equal] += 1
        return WinCounts(seen["both"], seen["first"], seen["second"], seen["neither"])

    groups = grouped(first.results)
    return Comparison(
        overall=difference(first.results),
        groups={
            group: {name: difference(members) for name, members in table.items()}
            for group, table in groups.items()
        },
        wins={
            ("", ""): wins(first.results),
            **{
                (group, name): wins(members)
                for group, table in groups.items()
                for name, members in table.items()
            },
        },
        only_first=tuple(p for p, share in mine_right.items() if share > theirs_right[p]),
        only_second=tuple(p for p, share in mine_right.items() if share < theirs_right[p]),
    )

"""Which values were predicted for which."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from star_tvr.scenes.world import APPEARANCE
from star_tvr.schemas.dataset import Dataset
from star_tvr.training.answers import parse_triplet, parse_truth
from star_tvr.training.metrics import Result
from star_tvr.training.report.report_data import Evaluation

NOT_NAMED, OTHER = "not named", "other"


@dataclass(frozen=True)
class Confusion:
    """True against predicted values of an attribute.

    Attributes:
        values: of the attribute; they label the rows.
        columns: `values`, `other` if something else was predicted, and `not named`.
        rows: for each true value, count and shade (0 to 1) at each column, and the row's sum.
        swatches: a CSS colour for each value, or nothing.
    """

    attribute: str
    values: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[tuple[int, float]], int]]
    swatches: Mapping[str, str]


def confusions(evaluation: Evaluation) -> list[Confusion]:
    """One matrix for each attribute that was transformed."""
    attributes = {t.attribute for r in evaluation.report.results for t in parse_truth(r.truth)}
    order = [a for a in (*APPEARANCE, "position") if a in attributes]
    return [confusion(evaluation.report.results, a, evaluation.dataset) for a in order]


def confusion(results: Iterable[Result], attribute: str, dataset: Dataset | None) -> Confusion:
    """What was predicted where object and attribute are right, by the true value.

    True transformations whose object and attribute no prediction names are `not named`. A model
    that gives several values to the same attribute of an object counts with each.
    """
    seen: Counter[tuple[str, str]] = Counter()
    wanted: Counter[str] = Counter()
    for result in results:
        predictions = [parse_triplet(p) for p in result.predictions]
        for truth in parse_truth(result.truth):
            if truth.attribute != attribute:
                continue
            wanted[truth.value] += 1
            named = [
                p.value
                for p in predictions
                if p and (p.object, p.attribute) == (truth.object, attribute)
            ]
            seen.update((truth.value, value) for value in named or [NOT_NAMED])
    if dataset is None:
        values = sorted(wanted)
        swatches = {}
    else:
        values = list(dataset.world.values(attribute))
        swatches = {name: f"rgb{rgb}" for name, rgb in dataset.world.colors.items()}
    known = {*values, NOT_NAMED}
    for (truth_value, value), count in list(seen.items()):
        if value not in known:
            seen[truth_value, OTHER] += count
    columns = [*values, *([OTHER] if any(v == OTHER for _, v in seen) else []), NOT_NAMED]
    rows = []
    for value in values:
        counts = [seen[value, column] for column in columns]
        whole = max(1, sum(counts))
        rows.append(([(count, count / whole) for count in counts], wanted[value]))
    return Confusion(attribute, values, columns, rows, swatches if attribute == "color" else {})

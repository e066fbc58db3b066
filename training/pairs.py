"""Which questions are asked, and in which order.

A question is a pair of images of one sample: a name and two cameras.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from star_tvr.scenes.errors import ConfigError, DataError, ParameterError
from star_tvr.scenes.seeds import derive, stream
from star_tvr.schemas.checks import parse_json
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Pair
from star_tvr.training.fresh_dataset import FreshDataset
from star_tvr.training.parquet_dataset import ParquetDataset

T = TypeVar("T")


def choose_pairs(dataset: Dataset, split: str, views: str) -> list[Pair]:
    """The pairs of a split that `RowsConfig.views` asks for, in the split's order.

    Raises:
        ConfigError: none of the split's pairs is of that kind.
        DataError: there is no such split, a line of it is wrong, or it is empty.
    """
    pairs = dataset.split(split)
    path = dataset.split_file(split)
    if not pairs:
        raise DataError(f"{path}: the split is empty")
    if views != "split" and not isinstance(dataset, FreshDataset):
        if isinstance(dataset, ParquetDataset):
            raise ConfigError(
                f"rows.views: {dataset.root} is an export, which holds the split's own pairs "
                f"alone; leave it out, or train from the folder that it was made from"
            )
        pairs = [
            Pair(sample, initial, final)
            for sample in dict.fromkeys(p.sample for p in pairs)
            for initial, final in _views(dataset, sample)
            if views == "all" or (initial == final) == (views == "same")
        ]
    if not pairs:
        raise ConfigError(
            f"rows.views: the scenes of {path} have no pair of the kind {views!r}; use split or all"
        )
    return pairs


def choose_questions(
    dataset: Dataset, splits: Sequence[str], limit: int | None = None
) -> list[Pair]:
    """The questions of one split or several, each once.

    Args:
        dataset: the open data set.
        splits: their names.
        limit: take the first so many, in an order that is hashed from their names: for every
            limit the same ones, and all those of a lower limit.

    Raises:
        DataError: there is no such split, a line of it is wrong, or it is empty.
    """
    pairs = list(dict.fromkeys(p for name in splits for p in choose_pairs(dataset, name, "split")))
    if limit is None or limit >= len(pairs):
        return pairs
    pairs.sort(key=lambda p: derive(0, "limit", p.sample, p.initial, p.final))
    return pairs[:limit]


def shuffled_images(pairs: Sequence[Pair]) -> dict[Pair, Pair]:
    """For every pair another one with the same cameras, whose pictures to show in its place.

    What a model still answers right it has not seen. The pictures are those of the next pair in
    the order given, and of the first for the last.

    Raises:
        ParameterError: a pair is the only one with its cameras.
    """
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.initial, pair.final), []).append(pair)
    for cameras, group in groups.items():
        if len(group) < 2:
            raise ParameterError(
                "shuffle_images",
                f"there is only one question from {' to '.join(cameras)}; it needs two whose "
                "pictures can be exchanged",
            )
    return {
        pair: other
        for group in groups.values()
        for pair, other in zip(group, [*group[1:], group[0]], strict=True)
    }


def _views(dataset: Dataset, sample: str) -> list[tuple[str, str]]:
    def pairs(document: Any) -> list[tuple[str, str]]:
        initial, final = (
            [i["camera"] for i in document["images"] if i["state"] == s]
            for s in ("initial", "final")
        )
        return [(a, b) for a in initial for b in final]

    return _glance(dataset, sample, pairs)


def _glance(dataset: Dataset, sample: str, read: Callable[[Any], T]) -> T:
    """Something in `sample.json`, without a check of its schema: for going through a split fast."""
    path = dataset.folder(sample) / "sample.json"
    try:
        return read(parse_json(dataset.text(sample), path))
    except (LookupError, TypeError) as problem:
        reason = f"{type(problem).__name__}: {problem}"
        raise DataError(f"{path}: is no sample ({reason}); render the sample again") from None


def difficulties(dataset: Dataset, split: str, pairs: Sequence[Pair]) -> list[float]:
    """How hard each pair is: the split's own figures, where it has one for every pair.

    Otherwise the number of changes, then of visible objects, then whether the view changes: what
    the paper's tables show accuracy to fall with. Reading all samples takes about 0.1 ms a KB.

    Raises:
        DataError: a sample is missing or damaged.
    """
    given = dataset.difficulties(split)
    if all(pair in given for pair in pairs):
        return [given[pair] for pair in pairs]

    def changes_and_objects(document: Any) -> tuple[int, int]:
        objects = document["states"]["initial"]["objects"]
        return len(document["transformations"]), sum(o["visible"] for o in objects)

    names = dict.fromkeys(p.sample for p in pairs)
    known = {name: _glance(dataset, name, changes_and_objects) for name in names}
    return [
        100 * known[p.sample][0] + known[p.sample][1] + 0.5 * (p.initial != p.final) for p in pairs
    ]


def epoch_order(
    pairs: Sequence[Pair],
    order: str,
    seed: int,
    epoch: int,
    hardness: Sequence[float] = (),
    together: bool = False,
) -> list[int]:
    """The places of `pairs` in the order in which one epoch asks for them.

    Args:
        pairs: of the split.
        order: see `RowsConfig`.
        seed, epoch: what a random order depends on.
        hardness: of every pair, for `easy-first`.
        together: keep the pairs of one sample next to each other.
    """
    groups: dict[str, list[int]] = {}
    if together:
        for place, pair in enumerate(pairs):
            groups.setdefault(pair.sample, []).append(place)
    units = list(groups.values()) if together else [[place] for place in range(len(pairs))]
    if order != "stored":
        units = [units[k] for k in stream(seed, "order", epoch).permutation(len(units))]
    if order == "easy-first":
        units.sort(key=lambda unit: max(hardness[place] for place in unit))
    return [place for unit in units for place in unit]

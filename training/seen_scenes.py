"""Which scenes a model was trained on, and how many of them it is asked about.

`run.json` says it of a run and of all that it began with, as numbers of samples: of data sets with
the same seed of scenes, samples of the same number show the same scene, whoever rendered them.
"""

import hashlib
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from star_tvr.scenes.settings import Settings
from star_tvr.schemas.checks import read_json
from star_tvr.schemas.dataset import Dataset, Manifest, dumps_line
from star_tvr.schemas.records import Pair

Span = tuple[int, int]
"""The first and the last of consecutive numbers."""

SPAN = "[0-9]{1,18}(-[0-9]{1,18})?"


class RunRecord(Settings, extra="ignore"):
    """What is read again of a `run.json`."""

    status: str = ""
    """How far the run got."""
    model: str = ""
    """What it began with."""
    processes: int = 0
    """How many trained together; 0 where it is not known."""
    code: dict[str, tuple[str, ...]] = {}
    """Of each module of the user's own, the SHA-256 of its file: all that it was, in order."""
    trained_on: dict[str, Annotated[str, Field(pattern=f"^{SPAN}(,{SPAN})*$")]] = {}
    """Numbers of samples, such as `0-6,9`, by what `scenes_of` says of their data set."""


def read_run(folder: Path) -> RunRecord:
    """The `run.json` in a folder; of one without, that nothing is known.

    Raises:
        ConfigError: it says something else.
        DataError: it cannot be read.
    """
    path = folder / "run.json"
    return RunRecord.parse(read_json(path), str(path)) if path.is_file() else RunRecord()


def scenes_of(manifest: Manifest) -> str:
    """What decides about the scenes of a data set, as one word.

    It is the seed of the scenes, with the version of the rules that they follow from it by; for an
    imported data set a hash of what it says of itself.
    """
    if manifest.source is None:
        return f"{manifest.schema_version}:{manifest.config.scene_seed}"
    return hashlib.sha256(dumps_line(manifest.to_json()).encode()).hexdigest()[:16]


def seen_scenes(folders: Iterable[str | None]) -> dict[str, list[Span]]:
    """What models, adapters and checkpoints were trained on, by `scenes_of`, in order.

    Args:
        folders: of any of them; others, and those that do not say it, count for nothing.

    Raises:
        ConfigError, DataError: what is beside one of them is no `run.json`, as for `read_run`.
    """
    found: dict[str, list[Span]] = {}
    for folder in filter(None, folders):
        path = Path(folder)
        run = path.parent if path.name.startswith("checkpoint-") else path
        for scenes, text in read_run(run).trained_on.items():
            ends = ([int(n) for n in part.split("-")] for part in text.split(","))
            found.setdefault(scenes, []).extend((e[0], e[-1]) for e in ends)
    return {scenes: _joined(spans) for scenes, spans in found.items()}


def scenes_of_run(
    dataset: Dataset, split: str, began_with: Iterable[str | None]
) -> Mapping[str, str]:
    """`RunRecord.trained_on` of a run: the split's scenes, and those of what it began with.

    Raises:
        What `seen_scenes` does, and DataError: there is no such split.
    """
    found = seen_scenes(began_with)
    numbers = [int(pair.sample) for pair in dataset.split(split)]
    own = found.setdefault(scenes_of(dataset.manifest), [])
    found[scenes_of(dataset.manifest)] = _joined([*own, *((n, n) for n in numbers)])
    return {scenes: ",".join(map(_words, spans)) for scenes, spans in found.items()}


def count_seen(dataset: Dataset, pairs: Iterable[Pair], folders: Iterable[str | None]) -> int:
    """How many of the scenes of some pairs a model was trained on. Raises as `seen_scenes`."""
    spans = seen_scenes(folders).get(scenes_of(dataset.manifest), [])
    firsts = [first for first, _ in spans]
    numbers = {int(pair.sample) for pair in pairs}
    return sum(n <= spans[k - 1][1] for n in numbers if (k := bisect(firsts, n)))


def _joined(spans: Sequence[Span]) -> list[Span]:
    """The same numbers in as few spans as possible, in order."""
    result: list[Span] = []
    for first, last in sorted(spans):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def _words(span: Span) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"

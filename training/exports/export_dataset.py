"""Writing a data set in another form: whole, or not at all.

Everything is written into a hidden folder beside the target, which takes its name at the end.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from star_tvr.scenes.errors import DataError, ParameterError
from star_tvr.schemas.card import Configs, write_export_card
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.folders import was_begun
from star_tvr.training.exports import (
    conversations_writer,
    parquet_writer,
    trance_writer,
    webdataset_writer,
)
from star_tvr.training.exports.items import ExportItem, ExportSplit, choose_splits, count

Writer = Callable[[Dataset, Sequence[ExportSplit], Path], Generator[ExportItem, None, Configs]]
"""Writes parts of a data set into a folder, yielding every item once it is written; returns what
the card tells the hub."""

FORMATS: dict[str, Writer] = {
    "parquet": parquet_writer.write,
    "webdataset": webdataset_writer.write,
    "sharegpt": conversations_writer.write_sharegpt,
    "vlm-r1": conversations_writer.write_vlm_r1,
    "reason-rft": conversations_writer.write_reason_rft,
    "trance": trance_writer.write,
}


class Export(NamedTuple):
    """An export that is about to be written.

    Attributes:
        total: how many items it has, or about.
        items: writes them, see `export_dataset`.
    """

    total: int
    items: Iterator[ExportItem]


def prepare_export(dataset: Dataset, out: Path, format: str, splits: Sequence[str] = ()) -> Export:
    """What `export_dataset` will do. Raises DataError if there is no such split."""
    total = count(dataset, choose_splits(dataset, splits))
    return Export(total, export_dataset(dataset, out, format, splits))


def export_dataset(
    dataset: Dataset, out: Path, format: str, splits: Sequence[str] = ()
) -> Generator[ExportItem, None, None]:
    """Write a data set in a format of `FORMATS`; yields every item once it is written.

    The target is there when the iteration has come to its end, and only then.

    Args:
        out: a folder that does not exist, or is empty.
        splits: such as `cross-view/train`; all where none is named. A data set without splits
            gives all its pairs.

    Raises:
        ConfigError: the format is unknown, the target not empty, or the data set cannot be had in
            this format.
        DataError: there is no such split, something in the data set is wrong, or the target cannot
            be written.
    """
    if format not in FORMATS:
        raise ParameterError("format", f"is unknown; known are {', '.join(FORMATS)}", format)
    parts = choose_splits(dataset, splits)
    was_begun(out, None)
    target = out.resolve()
    try:
        yield from _export(dataset, target, format, parts)
    except OSError as problem:
        reason = problem.strerror or " ".join(str(problem).split())
        raise DataError(f"{out}: cannot be written ({reason})") from None


def _export(
    dataset: Dataset, target: Path, format: str, parts: Sequence[ExportSplit]
) -> Generator[ExportItem, None, None]:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    new_parents = [p for p in target.parents if not p.exists()]
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        configs = yield from FORMATS[format](dataset, parts, draft)
        write_export_card(dataset, draft, format, configs)
        if target.exists():
            target.rmdir()
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in new_parents:
                parent.rmdir()
        raise

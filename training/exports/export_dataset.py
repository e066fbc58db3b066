"""Writing a data set in another form: whole, or not at all."""

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from star_tvr.scenes.errors import ParameterError
from star_tvr.schemas.card import Configs, read_blind, write_export_card
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.drafts import whole_folder
from star_tvr.training.exports import (
    conversations_writer,
    parquet_writer,
    trance_writer,
    verl_writer,
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
    "verl": verl_writer.write,
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
    read_blind(dataset.root)  # the card will need it: refused now, not after the work
    with whole_folder(out) as draft:
        configs = yield from FORMATS[format](dataset, parts, draft)
        write_export_card(dataset, draft, format, configs)

"""Writing a data set in another form: whole, or not at all.

Everything is written into a hidden folder beside the target, which takes its name at the end.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.schemas.card import Configs, write_export_card
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.folders import was_begun
from star_tvr.training.exports import (
    conversations_writer,
    parquet_writer,
    trance_writer,
    webdataset_writer,
)
from star_tvr.training.exports.items import ExportItem, ExportSplit, choose_splits

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


def export_dataset(
    dataset: Dataset, out: Path, form: str, splits: Sequence[str] = ()
) -> Generator[ExportItem, None, None]:
    """Write a data set in the format `form`; yields every item once it is written.

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
    if form not in FORMATS:
        raise ConfigError(f"--format {form}: is unknown; known are {', '.join(FORMATS)}")
    parts = choose_splits(dataset, splits)
    was_begun(out, None)
    target = out.resolve()
    try:
        yield from _export(dataset, target, form, parts)
    except OSError as problem:
        reason = problem.strerror or " ".join(str(problem).split())
        raise DataError(f"{out}: cannot be written ({reason})") from None


def _export(
    dataset: Dataset, target: Path, form: str, parts: Sequence[ExportSplit]
) -> Generator[ExportItem, None, None]:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    new_parents = [p for p in target.parents if not p.exists()]
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        configs = yield from FORMATS[form](dataset, parts, draft)
        write_export_card(dataset, draft, form, configs)
        if target.exists():
            target.rmdir()
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in new_parents:
                parent.rmdir()
        raise

"""Parquet files that other people made: ordinary files, and no more rows than they have bytes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.files import open_file

if TYPE_CHECKING:
    from pyarrow.parquet import FileMetaData, ParquetFile

MOST_ROWS = 10_000
"""Rows of a group, which is read as one."""

BATCH = 64
"""Rows that are unpacked at a time: a few bytes can stand for a long value in every row."""


@contextmanager
def open_parquet(path: Path, metadata: "FileMetaData | None" = None) -> "Iterator[ParquetFile]":
    """Open a file, and let it be read.

    Args:
        metadata: of this file, if it was read before.

    Raises:
        DataError: it is missing, damaged or no ordinary file, or promises what cannot be in it.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    with open_file(path) as handle:  # a pipe would have no end
        size = handle.seek(0, 2)
    try:
        with ParquetFile(path, metadata=metadata, memory_map=True) as file:
            _check_rows(file.metadata, size, path)
            yield file
    # pyarrow's errors are of many kinds: ArrowKeyError is a KeyError, ArrowTypeError a TypeError.
    except (OSError, ValueError, LookupError, TypeError, MemoryError, ArrowException) as problem:
        reason = " ".join(str(problem).split())
        raise DataError(f"{path}: cannot be read ({reason})") from None


def _check_rows(metadata: "FileMetaData", size: int, path: Path) -> None:
    groups = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
    if sum(groups) != metadata.num_rows or metadata.num_rows > size:
        raise DataError(f"{path}: promises {metadata.num_rows} rows in {size} bytes")
    if max(groups, default=0) > MOST_ROWS:
        raise DataError(f"{path}: has {max(groups)} rows in a group, and may have {MOST_ROWS}")


def read_rows(file: "ParquetFile", columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of an open file, one at a time."""
    for batch in file.iter_batches(BATCH, columns=list(columns)):
        yield from batch.to_pylist()

"""Putting samples on disk, and saying what was lacking when that fails."""

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.dataset import commit_sample, sample_folder

_CURES = {
    errno.ENOSPC: "make room, or name another folder",
    errno.EDQUOT: "the quota is used up: make room, or name another folder",
    errno.EFBIG: "files may not be that large: raise the limit (ulimit -f)",
    errno.EACCES: "it may not be written: change its permissions, or name another folder",
    errno.EROFS: "the file system is read-only: name another folder",
}


def store(root: Path, sample: str, files: Mapping[str, bytes]) -> None:
    """Put the files of a sample into the data set: all of them, or none.

    Raises:
        DataError: they cannot be written; it says how much was needed, and what to do.
    """
    try:
        commit_sample(root, sample, files)
    except OSError as problem:
        needed = sum(map(len, files.values()))
        cure = _CURES.get(problem.errno or 0, "see to it, then run the same command again")
        raise DataError(
            f"{sample_folder(root, sample)}: cannot be written ({problem.strerror}); "
            f"its {len(files)} files need {_megabytes(needed)}, {_free(root)} free; {cure}"
        ) from None


def _free(root: Path) -> str:
    try:
        return f"{_megabytes(shutil.disk_usage(root).free)} are"
    except OSError:
        return "nothing is known to be"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"

"""Writing a data set: its Manifest, and each sample whole or not at all."""

import errno
import platform
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import DataError
from star_tvr.schemas.dataset import Dataset, Manifest, commit_sample, dumps, sample_folder
from star_tvr.schemas.files import write_whole

_CURES = {
    errno.ENOSPC: "make room, or name another folder",
    errno.EDQUOT: "the quota is used up: make room, or name another folder",
    errno.EFBIG: "files may not be that large: raise the limit (ulimit -f)",
    errno.EACCES: "it may not be written: change its permissions, or name another folder",
    errno.EROFS: "the file system is read-only: name another folder",
}


def write_manifest(out: Path, config: DatasetConfig) -> None:
    """Make the folder and write its manifest, which covers what was asked for before, too.

    Raises:
        DataError: it cannot be written.
    """
    path = out / "dataset.json"
    manifest = Manifest.of(config, _versions())
    if path.exists():
        former = Dataset.open(out).manifest
        if config.num_samples <= former.config.num_samples:
            return
        # What is there was made by the versions that are named there.
        manifest = replace(manifest, versions=former.versions)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, dumps(manifest.to_json()))
    except OSError as problem:
        raise DataError(f"{out}: cannot be written ({problem.strerror})") from None


def write_sample(root: Path, sample: str, files: Mapping[str, bytes]) -> None:
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


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("star-tvr", "bpy", "numpy", "scipy", "pillow"):
        with suppress(PackageNotFoundError):  # plans alone are made without Blender
            found[package] = version(package)
    return found


def _free(root: Path) -> str:
    try:
        return f"{_megabytes(shutil.disk_usage(root).free)} are"
    except OSError:
        return "nothing is known to be"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"

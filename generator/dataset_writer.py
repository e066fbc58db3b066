"""Writing a data set: its Manifest, and each sample whole or not at all."""

import platform
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from star_tvr.scenes.config import DatasetConfig
from star_tvr.schemas.dataset import (
    Dataset,
    Manifest,
    commit_sample,
    dumps,
    refuse_other_config,
    sample_folder,
)
from star_tvr.schemas.files import make_folder, write_whole, writing
from star_tvr.schemas.locks import brief_lock


def write_manifest(out: Path, config: DatasetConfig) -> None:
    """Make the folder and write its manifest, which covers what was asked for before, too.

    Raises:
        ConfigError: another command has begun the folder with another configuration.
        DataError: it cannot be written.
    """
    path = out / "dataset.json"
    with writing(out):
        make_folder(out)
        with brief_lock(out):
            refuse_other_config(out, config)
            manifest = Manifest.of(config, _versions())
            if path.exists():
                former = Dataset.open(out).manifest
                if config.num_samples <= former.config.num_samples:
                    return
                # What is there was made by the versions that are named there.
                manifest = replace(manifest, versions=former.versions)
            write_whole(path, dumps(manifest.to_json()))


def write_sample(root: Path, sample: str, files: Mapping[str, bytes]) -> None:
    """Put the files of a sample into the data set: all of them, or none.

    Raises:
        DataError: they cannot be written; it says how much was needed, and what to do.
    """
    size = f"its {len(files)} files need {_megabytes(sum(map(len, files.values())))}"
    with writing(sample_folder(root, sample), lambda: f"{size}, {_free(root)} free; "):
        commit_sample(root, sample, files)


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

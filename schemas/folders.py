"""Folders that commands write to: new, or begun by the same work, so that it can go on."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from star_tvr.scenes.errors import ConfigError

LOCK = ".lock"
"""The file that is in a folder while a command writes to it, or left by one that was killed."""

CURRICULUM = "curriculum.jsonl"
"""The file in a data set that says by which decisions its samples were chosen."""

STREAM = "stream"
"""The folder in a data set where its readers and its renderer talk, see `schemas.stream`."""


def was_begun(folder: Path, record: str | None, name: str = "") -> bool:
    """Whether the work that leaves `record` in its folder has begun in this one.

    Args:
        record: the file that says what the folder is, such as `dataset.json`; None for work that
            begins in an empty folder only.
        name: of the option or key that names the folder, for errors.

    Returns:
        True if the record is there, False if the folder is empty or not there yet.

    Raises:
        ConfigError: it is a file, or holds something else.
    """
    where = f"{name}: {folder}" if name else f"{folder}"
    if record is not None and (folder / record).exists():
        return True
    refuse_file(folder, name)
    ours = (LOCK, STREAM, CURRICULUM) if record is not None else ()
    if folder.exists() and any(path.name not in ours for path in folder.iterdir()):
        without = f" and has no {record}" if record is not None else ""
        raise ConfigError(f"{where}: is not empty{without}; name another folder")
    return False


def refuse_file(folder: Path, name: str = "") -> None:
    """Raise ConfigError if a folder that is to be written to is a file; `name` as `was_begun`."""
    if folder.exists() and not folder.is_dir():
        where = f"{name}: {folder}" if name else f"{folder}"
        raise ConfigError(f"{where}: is a file; name a folder")


def refuse_other(
    folder: Path,
    former: Mapping[str, Any],
    wanted: Mapping[str, Any],
    free: Collection[str] = (),
    name: str = "",
) -> None:
    """Make sure that a folder was begun with the same settings.

    Args:
        former, wanted: settings that the folder has and should have, as JSON.
        free: keys, with dots, that may differ.
        name: as for `was_begun`.

    Raises:
        ConfigError: naming the first key that differs, and both values.
    """
    where = f"{name}: {folder}" if name else f"{folder}"
    for key, (old, new) in sorted(differences(former, wanted).items()):
        if key not in free:
            raise ConfigError(
                f"{where}: was made with {key} = {json.dumps(old)}, now it is {json.dumps(new)}; "
                "use the same settings or another folder"
            )


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Both values of every key in which two documents differ; None where one lacks it.

    >>> differences({"image": {"width": 320}}, {"image": {"width": 160}, "seed": 1})
    {'image.width': (320, 160), 'seed': (None, 1)}
    """
    found: dict[str, tuple[Any, Any]] = {}
    for key in {**first, **second}:
        old, new = first.get(key), second.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found |= {f"{key}.{k}": both for k, both in differences(old, new).items()}
        elif old != new:
            found[key] = (old, new)
    return found

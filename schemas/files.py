"""Reading and writing single files: ordinary ones only, of bounded size, and never half written."""

import os
import stat
import threading
from pathlib import Path
from typing import BinaryIO

from star_tvr.scenes.errors import DataError

LONGEST = 256_000_000
"""Bytes of a file that is read whole."""


def open_file(path: Path) -> BinaryIO:
    """Open an ordinary file for reading.

    Raises:
        DataError: it is missing, may not be read, or is a folder, a device or a pipe, which might
            have no end.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise DataError(f"{path}: cannot be read (it is no ordinary file)")
        return os.fdopen(handle, "rb")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as problem:  # ValueError: a null character in the name
        reason = getattr(problem, "strerror", None) or str(problem)
        raise DataError(f"{path}: cannot be read ({reason})") from None


def read_bytes(path: Path, longest: int = LONGEST) -> bytes:
    """The content of a file.

    Args:
        longest: bytes that it may have.

    Raises:
        DataError: it is missing, unreadable, too long, or no ordinary file.
    """
    with open_file(path) as file:
        try:
            content = file.read(longest + 1)
        except OSError as problem:
            raise DataError(f"{path}: cannot be read ({problem.strerror})") from None
    if len(content) > longest:
        raise DataError(f"{path}: is longer than {longest / 1e6:g} MB")
    return content


def read_text(path: Path, longest: int = LONGEST) -> str:
    """The text of a file in UTF-8. Raises DataError, as `read_bytes`, and for another encoding."""
    try:
        return read_bytes(path, longest).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: cannot be read ({problem})") from None


def refuse_links(root: Path, path: Path) -> None:
    """Make sure that a path below a folder stays in it: no part of it below the folder is a link.

    Raises:
        DataError: naming the link.
    """
    while path != root and path != path.parent:
        if path.is_symlink():
            raise DataError(f"{path}: is a link; a data set holds its own files")
        path = path.parent


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never seen half written, not even after a power cut.

    Raises:
        OSError: for instance a full disk; the former file stays then.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last, as `fsync` does for what is in a file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some file systems know no such thing; they keep names in their own time
    finally:
        os.close(handle)

"""Reading and writing single files: ordinary ones only, of bounded size, and never half written."""

import errno
import os
import platform
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from star_tvr.scenes.errors import DataError

LONGEST = 256_000_000
"""Bytes of a file that is read whole."""


CURES = {
    errno.ENOSPC: "make room, or name another folder",
    errno.EDQUOT: "the quota is used up: make room, or name another folder",
    errno.EFBIG: "files may not be that large: raise the limit (ulimit -f)",
    errno.EACCES: "it may not be written: change its permissions, or name another folder",
    errno.EROFS: "the file system is read-only: name another folder",
}


@contextmanager
def writing(path: Path, needed: Callable[[], str] = str) -> Iterator[None]:
    """Around what writes a file or folder: an error of the system becomes one sentence.

    Args:
        needed: what it takes to write it, for the sentence, which goes on after it.

    Raises:
        DataError: naming the path, the reason, and what to do.
    """
    try:
        yield
    except OSError as problem:
        # Libraries put words of their own around the system's.
        reason = os.strerror(problem.errno) if problem.errno else " ".join(str(problem).split())
        cure = CURES.get(problem.errno or 0, "see to it, then run the same command again")
        raise DataError(f"{path}: cannot be written ({reason}); {needed()}{cure}") from None


def open_file(path: Path, root: Path | None = None) -> BinaryIO:
    """Open an ordinary file for reading.

    Args:
        root: a folder that the file is below; then nothing on the way from there may be a link.

    Raises:
        DataError: it is missing, may not be read, or is a link below `root`, a folder, a device or
            a pipe, which might have no end.
    """
    try:
        if root is not None:
            refuse_links(root, path)
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


def read_bytes(path: Path, longest: int = LONGEST, root: Path | None = None) -> bytes:
    """The content of a file.

    Args:
        longest: bytes that it may have.
        root: as for `open_file`.

    Raises:
        DataError: it is missing, unreadable, too long, no ordinary file, or a link below `root`.
    """
    with open_file(path, root) as file:
        try:
            content = file.read(longest + 1)
        except OSError as problem:
            raise DataError(f"{path}: cannot be read ({problem.strerror})") from None
    if len(content) > longest:
        raise DataError(f"{path}: is longer than {longest / 1e6:g} MB")
    return content


def read_text(path: Path, longest: int = LONGEST, root: Path | None = None) -> str:
    """The text of a file in UTF-8. Raises DataError, as `read_bytes`, and for another encoding."""
    try:
        return read_bytes(path, longest, root).decode("utf-8")
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


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is never seen half written, not even after a power cut.

    Text is written in UTF-8.

    Raises:
        OSError: for instance a full disk; the former file stays then.
    """
    if isinstance(content, str):
        content = content.encode("utf-8")
    draft = path.with_name(f".{path.name}.{writer()}.{threading.get_ident()}")
    try:
        write_synced(draft, content)
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def writer(pid: int | None = None) -> str:
    """A name for a process of this machine, by default this one, that none elsewhere has."""
    return f"{platform.node()}-{os.getpid() if pid is None else pid}"


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and wait until its content is on the disk. Raises OSError."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they last. Raises OSError."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last, as `fsync` does for what is in a file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some file systems know no such thing; they keep names in their own time
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make everything below a folder last. Raises OSError, for instance for a full disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with open(Path(place, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(place))

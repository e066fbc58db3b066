"""Who may write to a folder now: locks that die with their process, on shared file systems, too.

A lock is one on a stretch of bytes of the file `.lock` (POSIX `fcntl`), so that commands that make
different samples of one data set do not exclude each other: byte `i` stands for sample `i`. The
file says who holds it, and means nothing when it is left behind. The last one removes it, but on a
file system that other machines may share: there a client can go on seeing, and lock, a file that
another one removed, while a third makes a new one.
"""

import errno
import fcntl
import os
import platform
import shlex
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.schemas.files import make_folder, writing
from star_tvr.schemas.folders import LOCK, refuse_file

GATE = 2**62
"""The byte that is locked for a moment by whoever takes or leaves a lock; all parts are below."""

_held: dict[tuple[int, int], int] = {}
"""Descriptors of the locks of this process. Closing any other one would end its locks."""


@contextmanager
def lock_folder(
    folder: Path,
    part: range | None = None,
    shared: bool = False,
    clean: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Make a folder and let nobody else who asks write to it, or to a part of it, meanwhile.

    Where the file system has no locks, or keeps them from other machines, it says so on stderr and
    goes on. A folder that was made
    here and is empty at the end is removed.

    Args:
        part: numbers of samples; None for everything.
        shared: whether others that ask for the same, shared, may be at work as well.
        clean: called first if nobody is at work there, while nobody can begin to be.

    Raises:
        ConfigError: somebody else holds it, who is named; or it is a file.
        DataError: the folder cannot be made, or its `.lock` is a link or no file.
    """
    refuse_file(folder)
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    with writing(folder):
        make_folder(folder)
        place = os.open(folder, os.O_RDONLY)
    try:
        owner = os.fstat(place)
        key = (owner.st_dev, owner.st_ino)
        if key in _held:
            raise ConfigError(f"{folder}: this process writes to it already")
        handle = _enter(folder, place)
        if handle is None:
            yield
            return
        _held[key] = handle
        try:
            _warn_if_lonely(folder, place)
            _take(handle, folder, part, shared, clean)
            fcntl.lockf(handle, fcntl.LOCK_UN, 1, GATE)
            yield
        finally:
            del _held[key]
            _leave(handle, place)
    finally:
        os.close(place)
        with suppress(OSError):  # not empty
            for path in made:
                path.rmdir()


@contextmanager
def brief_lock(folder: Path) -> Iterator[None]:
    """Wait until nobody else is in such a block for this folder; for what takes a moment.

    Raises:
        DataError: the folder's `.lock` is a link or no file.
    """
    with writing(folder):
        place = os.open(folder, os.O_RDONLY)
    try:
        owner = os.fstat(place)
        held = _held.get((owner.st_dev, owner.st_ino))
        if held is not None:
            fcntl.lockf(held, fcntl.LOCK_EX, 1, GATE)
            try:
                yield
            finally:
                fcntl.lockf(held, fcntl.LOCK_UN, 1, GATE)
            return
        handle = _enter(folder, place)
        try:
            yield
        finally:
            if handle is not None:
                _leave(handle, place)
    finally:
        os.close(place)


def _warn_if_lonely(folder: Path, place: int) -> None:
    kind, options = _mount(place)
    for found in sorted({kind, *options} & LONELY):
        words = f"locks do not reach other machines here ({found}); let none write to it meanwhile"
        print(f"{folder}: {words}", file=sys.stderr)


def _enter(folder: Path, place: int) -> int | None:
    """A descriptor of the folder's lock file, with its gate locked; None where nothing locks.

    `place` is a descriptor of the folder.
    """
    path = folder / LOCK
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            handle = os.open(LOCK, flags, 0o666, dir_fd=place)
        except OSError as problem:
            if path.is_symlink() or path.is_dir():
                raise DataError(f"{path}: is no file of ours; remove it") from None
            if not os.access(folder, os.W_OK):
                return None  # nothing can be written here, so there is nothing to protect
            with writing(path):
                raise problem
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(handle)
            raise DataError(f"{path}: is no file of ours; remove it")
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX, 1, GATE)
        except OSError as problem:
            os.close(handle)
            reason = f"the file system has no locks ({problem.strerror})"
            print(f"{folder}: {reason}; let nothing else write to it meanwhile", file=sys.stderr)
            return None
        with suppress(FileNotFoundError):  # the last one who had it has removed it
            if os.path.samestat(found, os.stat(LOCK, dir_fd=place, follow_symlinks=False)):
                return handle
        os.close(handle)


def _take(
    handle: int,
    folder: Path,
    part: range | None,
    shared: bool,
    clean: Callable[[], None] | None,
) -> None:
    """Lock a part, behind the gate."""
    if _try(handle, fcntl.LOCK_EX, range(GATE)):
        os.ftruncate(handle, 0)  # whoever was in it has gone
        fcntl.lockf(handle, fcntl.LOCK_UN, GATE)
    part = range(GATE) if part is None else part
    if part and _try(handle, fcntl.LOCK_EX, part):
        if clean is not None:
            clean()
        if shared:
            _try(handle, fcntl.LOCK_SH, part)
    elif part and not (shared and _try(handle, fcntl.LOCK_SH, part)):
        raise ConfigError(
            f"{folder}: in use by {_holders(handle)}; wait until that is done, or name another "
            "folder"
        )
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
    line = f"{platform.node()} {os.getpid()} {' '.join(command.split())}\n"
    with suppress(OSError):  # a full disk: the lock holds, without a name
        os.lseek(handle, 0, os.SEEK_END)
        os.write(handle, line.encode("utf-8", "backslashreplace"))


def _leave(handle: int, place: int) -> None:
    """End all locks; the last one removes the file, if it may, wherever its folder is by now."""
    with suppress(OSError):  # the lock ends with the descriptor, come what may
        fcntl.lockf(handle, fcntl.LOCK_EX, 1, GATE)
        fcntl.lockf(handle, fcntl.LOCK_UN, GATE)
        if _try(handle, fcntl.LOCK_EX, range(GATE)) and _mount(place)[0] in LOCAL:
            os.unlink(LOCK, dir_fd=place)
    os.close(handle)


LOCAL = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "overlay", "tmpfs"),
    *("ramfs", "vfat", "exfat", "ntfs3", "hfsplus"),
}
"""File systems of Linux that one machine has for itself. What is not listed may be shared."""


LONELY = {"nolock", "local_lock=all", "local_lock=posix", "fuse.sshfs"}
"""Options and kinds of mounts that keep locks to themselves: no other machine learns of them."""

MOUNTS = Path("/proc/self/mountinfo")


def _mount(place: int) -> tuple[str, set[str]]:
    """The file system of a folder, given by a descriptor, and the options of its mount.

    ("tmpfs", {}) where nothing is known of it: on other systems than Linux, for parts of btrfs.
    """
    device = os.fstat(place).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):
        for line in MOUNTS.read_text().splitlines():
            # "36 35 98:0 /root /mount options … - type source options"
            mount, _, rest = line.partition(" - ")
            if mount.split()[2] == number:
                kind, _, options = rest.split(maxsplit=2)
                return kind, set(options.split(","))
    return "tmpfs", set()


def _try(handle: int, kind: int, part: range) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.lockf(handle, kind | fcntl.LOCK_NB, len(part), part.start)
    except OSError as problem:
        if problem.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _holders(handle: int) -> str:
    """Who holds locks, as they wrote it: the first, and how many more."""
    found = []
    text = os.pread(handle, 64_000, 0).decode("utf-8", "replace")
    for line in text.splitlines():
        host, _, rest = line.partition(" ")
        pid, _, command = rest.partition(" ")
        gone = host == platform.node() and (pid == str(os.getpid()) or not _alive(pid))
        if pid.isdecimal() and not gone:
            shown = "".join(c if c.isprintable() else "?" for c in command)
            found.append(f"{shown} (process {pid} on {host})")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return found[0] + more if found else "another process"


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's
    return True

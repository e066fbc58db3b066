"""One writer to a folder, or to a part of it: real processes, which are killed, too."""

import fcntl
import os
import platform
import subprocess
import sys
from contextlib import ExitStack

import pytest

from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.schemas import locks
from star_tvr.schemas.folders import LOCK, was_begun
from star_tvr.schemas.locks import brief_lock, lock_folder

HOLD = """
import sys
from pathlib import Path
from star_tvr.schemas.locks import lock_folder
folder, first, last, shared = sys.argv[1:]
part = range(int(first), int(last)) if last != "all" else None
with lock_folder(Path(folder), part, shared == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""

BRIEF = """
import sys
from pathlib import Path
from star_tvr.schemas.locks import brief_lock
with brief_lock(Path(sys.argv[1])):
    print("in", flush=True)
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


class Holder:
    """Another process that holds a lock until it is told to end."""

    def __init__(self, folder, first="0", last="all", shared="alone"):
        self.process = start(HOLD, folder, first, last, shared)
        assert self.process.stdout.readline() == "held\n"

    def end(self):
        self.process.communicate("")

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def hold():
    with ExitStack() as stack:

        def begin(*arguments):
            holder = Holder(*arguments)
            stack.callback(holder.kill)
            return holder

        yield begin


def test_the_second_one_says_who_holds_it(tmp_path, hold):
    other = hold(tmp_path / "d")
    who = rf"d: in use by -c .* \(process {other.process.pid} on {platform.node()}\); wait"
    with pytest.raises(ConfigError, match=who), lock_folder(tmp_path / "d"):
        pass
    other.end()
    with lock_folder(tmp_path / "d"):
        assert not was_begun(tmp_path / "d", "dataset.json")
    assert not (tmp_path / "d" / LOCK).exists()


def test_a_lock_dies_with_its_process_and_what_it_left_is_taken_over(tmp_path, hold):
    hold(tmp_path / "d").kill()
    assert (tmp_path / "d" / LOCK).read_text()
    with lock_folder(tmp_path / "d"):
        assert str(os.getpid()) in (tmp_path / "d" / LOCK).read_text()
    assert not list((tmp_path / "d").iterdir())


def test_parts_and_shared_locks_exclude_only_what_they_must(tmp_path, hold):
    hold(tmp_path, 0, 10, "shared")
    with lock_folder(tmp_path, range(5, 15), shared=True):
        pass
    with lock_folder(tmp_path, range(10, 20)):
        hold(tmp_path, 20, 30, "alone")
    hold(tmp_path, 15, 16, "shared")
    for part in (range(9, 12), range(10, 16), None):
        with pytest.raises(ConfigError, match=r"in use by .*\(and 2 more\)"):
            with lock_folder(tmp_path, part):
                pass
    with pytest.raises(ConfigError), lock_folder(tmp_path, range(25, 26), shared=True):
        pass


def test_what_was_left_is_cleared_by_whoever_is_alone(tmp_path, hold):
    cleared = []
    with lock_folder(tmp_path, range(5), True, lambda: cleared.append("alone")):
        pass
    other = hold(tmp_path, 0, 5, "shared")
    with lock_folder(tmp_path, range(5), True, lambda: cleared.append("beside another")):
        pass
    other.end()
    assert cleared == ["alone"]


def test_a_folder_that_was_made_for_nothing_goes(tmp_path):
    with pytest.raises(DataError), lock_folder(tmp_path / "a" / "b"):
        raise DataError("no")
    assert not list(tmp_path.iterdir())
    with lock_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "file").touch()
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_a_folder_that_is_renamed_loses_its_lock_file_all_the_same(tmp_path):
    with lock_folder(tmp_path / "draft"):
        (tmp_path / "draft" / "file").touch()
        (tmp_path / "draft").rename(tmp_path / "final")
    assert [p.name for p in (tmp_path / "final").iterdir()] == ["file"]


def test_brief_locks_wait(tmp_path):
    with brief_lock(tmp_path):
        other = start(BRIEF, tmp_path)
        (tmp_path / "in").write_text("first")
        assert other.poll() is None
    assert other.communicate()[0] == "in\n" and other.returncode == 0
    assert not (tmp_path / LOCK).exists()
    with lock_folder(tmp_path), brief_lock(tmp_path):
        pass  # the lock of this process is not lost by it:
    with lock_folder(tmp_path):
        with brief_lock(tmp_path):
            pass
        other = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path), "0", "all", "alone"], capture_output=True
        )
        assert b"in use by" in other.stderr


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "pipe", "folder"])
def test_a_lock_file_that_is_none_of_ours_is_refused_and_left_alone(tmp_path, kind):
    precious, lock = tmp_path / "precious", tmp_path / "d" / LOCK
    precious.write_text("content")
    lock.parent.mkdir()
    {
        "link": lambda: lock.symlink_to(precious),
        "dangling": lambda: lock.symlink_to(tmp_path / "nothing"),
        "hard link": lambda: lock.hardlink_to(precious),
        "pipe": lambda: os.mkfifo(lock),
        "folder": lock.mkdir,
    }[kind]()
    for take in (lock_folder, brief_lock):
        with pytest.raises(DataError, match=f"{lock}: is no file of ours; remove it"):
            with take(lock.parent):
                pass
    assert precious.read_text() == "content" and not (tmp_path / "nothing").exists()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def refuse(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with lock_folder(tmp_path / "d"):
        assert (tmp_path / "d").is_dir()
    assert "d: the file system has no locks (No locks available); let" in capsys.readouterr().err


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """Lets a folder appear to be on a file system of this kind, with these options."""

    def mount(kind, options):
        device = tmp_path.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        table = tmp_path / "mountinfo"
        table.write_text(
            "22 28 0:999 / /proc rw - proc proc rw\n"
            f"70 28 {number} / /home rw,relatime shared:9 - {kind} server:/home {options}\n"
        )
        monkeypatch.setattr(locks, "MOUNTS", table)
        return tmp_path / "d"

    return mount


def test_where_other_machines_may_share_a_file_system_the_lock_file_stays(mounted, hold, capsys):
    """On NFS, a client that still sees a file which another one removed would lock that one."""
    folder = mounted("nfs4", "rw,vers=4.2,local_lock=none")
    with lock_folder(folder):
        number = (folder / LOCK).stat().st_ino
    with lock_folder(folder):
        pass
    assert (folder / LOCK).stat().st_ino == number
    other = hold(folder)
    with pytest.raises(ConfigError, match=f"process {other.process.pid} on"):
        with lock_folder(folder):
            pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [("nfs", "rw,nolock", "nolock"), ("fuse.sshfs", "rw,user_id=0", "fuse.sshfs")],
)
def test_locks_that_other_machines_do_not_see_are_said(mounted, capsys, kind, options, said):
    folder = mounted(kind, options)
    with lock_folder(folder):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{folder}: locks do not reach other machines here ({said})")


def test_a_folder_is_not_locked_twice_by_one_process(tmp_path):
    with lock_folder(tmp_path):
        with pytest.raises(ConfigError, match="this process writes to it already"):
            with lock_folder(tmp_path):
                pass
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: is a file"), lock_folder(tmp_path / "file"):
        pass

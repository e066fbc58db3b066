"""One command on one attacked copy, in a process of its own with limits; and what came of it."""

import base64
import ctypes
import faulthandler
import hashlib
import os
import re
import resource
import select
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import MARKUP, REPLACEMENTS, is_text

SECONDS = 60
"""What a command may take, not counting how long it waits for a core of a busy machine."""
BYTES = 1_000_000_000
"""What a command may take beyond what the interpreter holds with all libraries loaded."""

PR_SET_PDEATHSIG = 1

Change = bytes | str
"""New content of a file, or one of `REPLACEMENTS`; for the server also a way to answer."""


@dataclass(frozen=True)
class Case:
    """One input: a command, and the files that were attacked before it.

    Attributes:
        name: kind, seed and number.
        needs: the originals that the command reads.
        command: arguments of `tvr`, relative to the folder in which it is run.
        changes: path in that folder to its new content.
        writes: where the command may write, apart from `out`.
        wrong: why success would be wrong; empty if it may be right.
    """

    name: str
    needs: Sequence[str]
    command: Sequence[str]
    changes: Mapping[str, Change]
    writes: Sequence[str] = ()
    wrong: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the corpus."""
        changes = {p: _change_to_json(c) for p, c in self.changes.items()}
        return {**vars(self), "needs": list(self.needs), "changes": changes}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Case":
        """Read what `to_json` made."""
        values = {k: v for k, v in document.items() if k != "fell"}
        changes = {p: _change_from_json(c) for p, c in document["changes"].items()}
        return cls(**{**values, "changes": changes})


SHORT = 2_000
"""Bytes of a text that is stored so that it can be read."""


def _change_to_json(change: Change) -> dict[str, str]:
    if isinstance(change, str):
        return {"replaced": change}
    if len(change) <= SHORT and is_text(change):
        return {"text": change.decode()}
    return {"zlib": base64.b64encode(zlib.compress(change, 9)).decode()}


def _change_from_json(document: dict[str, str]) -> Change:
    if "replaced" in document:
        return document["replaced"]
    if "text" in document:
        return document["text"].encode()
    return zlib.decompress(base64.b64decode(document["zlib"]))


@dataclass
class Outcome:
    """What came of a case.

    Attributes:
        status: exit status; negative for a signal, None for a process that was stopped.
        output: standard output and error.
        seconds: how long it took.
        work: seconds of processor time that it took, of them.
        problems: what must not be, one line each.
    """

    case: Case
    status: int | None
    output: str
    seconds: float
    work: float = 0.0
    problems: list[str] = field(default_factory=list)


def attack(case: Case, originals: Path) -> Outcome:
    """Run a case in a folder of its own and judge it."""
    with box(case, originals) as root:
        before = _snapshot(root)
        outcome = _run(case, root, case.command)
        judge(outcome, _differences(before, _snapshot(root)), root)
    if any("unnamed" in problem for problem in outcome.problems):
        with box(case, originals) as root:  # once more, to see where it comes from
            again = _run(case, root, ["--debug", *case.command]).output
        outcome.problems = [f"{problem} {_place(again, -1)}" for problem in outcome.problems]
    return outcome


@contextmanager
def box(case: Case, originals: Path) -> Iterator[Path]:
    """A folder with copies of what the case needs, and its changes made."""
    root = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        for name in ("outside", *case.needs):
            source = originals / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, root / name)
        (root / "tmp").mkdir()
        for path, change in case.changes.items():
            _apply(root, root / path, change)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _apply(root: Path, path: Path, change: Change) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(change, bytes):
        path.write_bytes(change)
        return
    outside = root / "outside" / path.name
    if change in REPLACEMENTS and path.exists():
        path.rename(outside)
    if change == "link":
        path.symlink_to(outside, outside.is_dir())
    elif change in ("dangling", "loop", "zero"):
        target = {"dangling": root / "outside" / "nowhere", "loop": path, "zero": Path("/dev/zero")}
        path.symlink_to(target[change])
    elif change == "fifo":
        os.mkfifo(path)
    elif change == "device":
        try:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        except PermissionError:  # only root may
            path.symlink_to("/dev/zero")
    elif change == "folder":
        path.mkdir()
    elif change in ("huge", "empty"):
        with path.open("wb") as file:
            file.truncate(8_000_000_000 if change == "huge" else 0)
    elif change not in REPLACEMENTS:
        path.write_text(change)


def _run(case: Case, root: Path, command: Sequence[str]) -> Outcome:
    log = root / "tmp" / "output"
    sys.stdout.flush()
    sys.stderr.flush()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(case, root, list(command), log)
    watch = os.pidfd_open(pid)
    try:
        waiting = select.poll()
        waiting.register(watch, select.POLLIN)
        while not (ended := waiting.poll(1000)):
            if time.monotonic() - start - _kept_waiting(pid) > SECONDS:
                break
        stopped = not ended
        if stopped:
            os.kill(pid, signal.SIGABRT)  # shows where it is
            waiting.poll(5000)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # with whatever it started
        _, code, used = os.wait4(pid, 0)
    finally:
        os.close(watch)
    status = None if stopped else os.waitstatus_to_exitcode(code)
    output = log.read_bytes()[:2_000_000].decode(errors="replace") if log.is_file() else ""
    seconds = time.monotonic() - start
    return Outcome(case, status, output, seconds, used.ru_utime + used.ru_stime)


def _kept_waiting(pid: int) -> float:
    """Seconds for which a process could have run and others did."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _child(case: Case, root: Path, command: list[str], log: Path) -> None:
    """Be the command; does not return."""
    status = 99
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # ends with its parent
        os.chdir(root)
        os.environ.update(TMPDIR=str(root / "tmp"), HOME=str(root / "tmp"), OPENAI_API_KEY="k" * 20)
        tempfile.tempdir = None
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(handle, number)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        faulthandler.enable(2)
        held = int(re.findall(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[0]) << 10
        resource.setrlimit(resource.RLIMIT_DATA, (held + BYTES, held + BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if "{url}" in command:
            url = serve((root / "reply.http").read_bytes(), root)
            command = [url if word == "{url}" else word for word in command]
        status = _call(command)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: B036 - a child must never go on as its parent
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _call(command: list[str]) -> int:
    """The command line, or for Blender's own files the function that reads them."""
    from star_tvr.scenes.errors import TvrError

    if command[-2] == "read_layers":
        from star_tvr.generator.frames import read_layers

        try:
            read_layers(Path(command[-1]))
        except TvrError as problem:
            print(f"error: {problem}", file=sys.stderr)
            return 1
        return 0
    from star_tvr import tvr

    sys.argv = ["tvr", *command]
    try:
        tvr.main(command)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def serve(reply: bytes, root: Path) -> str:
    """A server in this process that sends `reply`, or misbehaves as it says; its address."""
    listener, elsewhere = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    other = f"http://localhost:{elsewhere.getsockname()[1]}/v1/chat/completions"

    def visited() -> None:
        elsewhere.accept()
        (root / "outside" / "visited").touch()  # a request went to a server nobody named

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                _read_request(connection)
                for piece in _pieces(reply, other):
                    connection.sendall(piece)
            except OSError:
                pass  # the client hung up

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    for target in (accept, visited):
        threading.Thread(target=target, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def _read_request(connection: socket.socket) -> None:
    content = b""
    while b"\r\n\r\n" not in content:
        content += connection.recv(65536)
    head, _, body = content.partition(b"\r\n\r\n")
    left = int(re.findall(rb"(?i)content-length: (\d+)", head)[0]) - len(body)
    while left > 0:
        left -= len(connection.recv(65536))


HOSTILE = {
    "endless": "a body without end",
    "endless error": "an error without end",
    "endless head": "headers without end",
    "gzip": "1 GB of zeros as 1 MB of gzip",
    "large": "1.5 GB announced and sent",
    "silent": "nothing at all",
    "slow": "a byte now and then",
    "cut": "half of a reply",
    "redirect": "a redirect to another server",
    "later": "asks to come back in a year",
}
"""How a server misbehaves that sends no fixed reply."""


def _pieces(reply: bytes, other: str) -> Iterator[bytes]:
    """What a server sends, piece by piece."""
    ok = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    megabyte = b" " * (1 << 20)
    match reply.decode(errors="replace"):
        case "endless" | "endless error" as way:
            yield ok if way == "endless" else b"HTTP/1.1 400 Bad\r\n"
            yield b"connection: close\r\n\r\n"
            while True:
                yield megabyte
        case "endless head":
            yield ok
            while True:
                yield b"x-a: " + b"b" * 1000 + b"\r\n"
        case "gzip":
            packer = zlib.compressobj(9, wbits=31)
            yield ok + b"content-encoding: gzip\r\nconnection: close\r\n\r\n"
            for _ in range(1000):
                yield packer.compress(bytes(1 << 20))
            yield packer.flush()
        case "large":
            yield ok + b"content-length: 1500000000\r\n\r\n"
            for _ in range(1500):
                yield megabyte
        case "silent" | "slow" | "cut" as way:
            yield b"" if way == "silent" else ok + b"content-length: 100000\r\n\r\n"
            while way != "cut":
                time.sleep(0.05)
                yield b" " if way == "slow" else b""
        case "redirect":
            head = f"HTTP/1.1 307 There\r\nlocation: {other}\r\ncontent-length: 0\r\n\r\n"
            yield head.encode()
        case "later":
            yield b"HTTP/1.1 429 Busy\r\nretry-after: 31536000\r\ncontent-length: 0\r\n\r\n"
        case _:
            yield reply


Snapshot = dict[str, tuple[object, ...]]


def _snapshot(root: Path) -> Snapshot:
    """Every file and link below a folder, with what tells whether it was written."""
    found: Snapshot = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            info = path.lstat()
            content: object = None
            if stat.S_ISREG(info.st_mode) and info.st_size < 10_000_000:
                content = hashlib.blake2b(path.read_bytes()).digest()
            size = None if stat.S_ISDIR(info.st_mode) else info.st_size
            found[str(path.relative_to(root))] = (info.st_mode, size, content)
    return found


def _differences(before: Snapshot, after: Snapshot) -> list[str]:
    return sorted(p for p in {*before, *after} if before.get(p) != after.get(p))


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LONGEST_LINE = 5_000


def judge(outcome: Outcome, changed: list[str], root: Path) -> None:
    """Write down what must not be; `changed` are paths below `root`."""
    case, problems, output = outcome.case, outcome.problems, outcome.output
    if outcome.status is None:
        problems.append(f"takes more than {SECONDS} s {_place(output)}")
        return
    if outcome.status < 0:
        name = signal.Signals(-outcome.status).name
        problems.append(f"killed by {name} {_place(output)}")
    elif "Traceback (most recent" in output:
        problems.append(f"traceback: {output.split()[-1][:150]} {_place(output, -1)}")
    elif outcome.status not in (0, 1, 2):
        problems.append(f"exit status {outcome.status}")
    elif unnamed := re.search(r"error: (.*); --debug says more", output):
        problems.append(f"unnamed {unnamed[1][:150]}")
    elif outcome.status and not output.strip():
        problems.append("fails without a word")
    elif outcome.status and not any(_named(*item, output) for item in case.changes.items()):
        problems.append(f"does not name the file: {output.strip().splitlines()[-1][:200]}")
    if outcome.status == 0 and case.wrong:
        problems.append(f"success: {case.wrong}")
    if control := CONTROL.search(output):
        problems.append(f"prints the control character {control[0]!r}")
    if max(map(len, output.splitlines()), default=0) > LONGEST_LINE:
        problems.append("prints a line of more than 5,000 characters")
    allowed = ("out", "tmp", *case.writes)
    if strange := [p for p in changed if not any(f"{p}/".startswith(f"{a}/") for a in allowed)]:
        problems.append(f"writes {', '.join(strange[:3])}")
    for path in changed:
        if path.endswith(".html") and (root / path).is_file():
            if MARKUP in (root / path).read_text(errors="replace"):
                problems.append(f"markup goes into {path}")


def _named(path: str, change: Change, output: str) -> bool:
    """Whether a message says which file was changed, or the folder it is in."""
    *_, folder, name = ("", *path.split("/"))
    words = {folder, name, Path(name).stem} - {"", "data"}
    if name == "dataset.json":
        words.add("sample.json")  # one of the two is wrong, and nobody can tell which
    return path == "reply.http" or isinstance(change, str) or any(w in output for w in words)


def _place(output: str, which: int = 0) -> str:
    """Where in our code a process was: in a stack of faulthandler first, in a traceback last."""
    places = re.findall(r'File "[^"]*?(star_tvr/[^"]+)", line (\d+)', output)
    return f"[{':'.join(places[which])}]" if places else ""

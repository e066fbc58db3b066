"""Running `tvr` as users do, and looking at what it left on disk."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TVR = Path(sys.executable).with_name("tvr")
ROUGH = ("render.samples=1", "render.denoise=false")
SMALL = ("image.width=64", "image.height=48", *ROUGH)
SMALLEST = ("image.width=32", "image.height=24", *ROUGH)


linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc or limits of Linux")


def limited(size: int) -> Callable[[], None]:
    """Files of more than `size` bytes cannot be written by what is started with this."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def sets(*overrides: str) -> list[str]:
    """`--set` for every override."""
    return [part for o in overrides for part in ("--set", o)]


def tvr(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the installed command and wait for it."""
    command = [str(TVR), *map(str, arguments)]
    options = {"timeout": 300, **options}
    return subprocess.run(command, capture_output=True, text=True, **options)


def render(out: Path, *arguments: str, overrides: tuple[str, ...] = SMALLEST) -> str:
    """Render a data set, which must succeed; what was printed."""
    done = tvr("render", out, *arguments, *sets(*overrides))
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: str | Path, status: int = 2) -> str:
    """Run a command that must fail with one line on stderr, which is returned."""
    done = tvr(*arguments)
    assert done.returncode == status, (done.returncode, done.stderr[-2000:])
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr[-2000:]
    assert "Traceback" not in lines[0]
    assert lines[0].startswith("error: ")
    return lines[0]


class Running:
    """A `tvr` command at work, in a process group of its own."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [str(TVR), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for something true while the command works; it must not end before that."""
        for _ in range(18000):
            if result := condition():
                return result
            try:
                self.process.wait(timeout=0.01)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"ended too early: {self.process.communicate()}")
        raise AssertionError("nothing happened")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        os.killpg(self.process.pid, number)

    def workers(self) -> list[int]:
        """The Blender processes of this command."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended
            if parent == self.process.pid and b"star_tvr.generator.worker" in command:
                found.append(int(folder.name))
        return found

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; status, stdout and stderr."""
        out, err = self.process.communicate(timeout=300)
        return self.process.returncode, out, err


def samples(root: Path) -> list[Path]:
    """The folders of the samples that are there."""
    return sorted(root.glob("samples/*/[0-9]*"))


def documents(root: Path) -> list[Any]:
    """All `sample.json`."""
    return [json.loads((f / "sample.json").read_text()) for f in samples(root)]


def contents(root: Path) -> dict[str, bytes]:
    """Every file of all samples but drafts; rendering times are taken out of `sample.json`."""
    files = {}
    for path in sorted(root.glob("samples/*/[0-9]*/*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "sample.json":
                document = json.loads(content)
                seconds = json.dumps(document["render"]["seconds"])
                content = content.replace(f'"seconds": {seconds}'.encode(), b'"seconds": 0')
            files[str(path.relative_to(root))] = content
    return files

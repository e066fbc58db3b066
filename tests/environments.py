"""Environments of their own for the built wheel, as a user's `pip install` makes them.

They stay in .venv-tests/ until what is asked for changes. `make sizes` has one made for every extra
and prints what they weigh.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ROOT / ".venv-tests"

CLEAN = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
"""The surroundings of a user who has not heard of this checkout."""


def build(folder: Path, *options: str) -> Path:
    """Build the files of this checkout, with options of `python -m build`, into a new folder."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    source = folder / "source"  # what lies about in the checkout could get into what is built
    for name in filter(None, listed.split("\0")):
        if os.path.lexists(ROOT / name):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", *options, source)
    return folder / "dist"


def newer_python() -> str | None:
    """A Python from 3.12 on, of those on the PATH and pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(pyenv.glob("versions/*/bin/python3.1[23]"), reverse=True)
    for python in ("python3.13", "python3.12", *map(str, found)):
        if shutil.which(python):  # pyenv has commands that only say where the real ones are
            code = "import sys; sys.exit(sys.version_info < (3, 12))"
            if subprocess.run([python, "-c", code], capture_output=True).returncode == 0:
                return python
    return None


def environment(
    wheel: Path,
    extras: str = "",
    python: str = sys.executable,
    packages: Sequence[str] = (),
) -> Path:
    """The folder of commands of an environment that has this wheel and what it asks for.

    Args:
        wheel: of this project.
        extras: such as `render` or `train,ask`.
        python: to make the environment of.
        packages: of other people, which choose the versions of all but PyTorch.

    Raises:
        AssertionError: something cannot be installed; with what pip says.
    """
    name = re.split("[=<>]", packages[0])[0] if packages else extras or "core"
    folder = KEPT / f"{name}-{Path(python).name}"
    KEPT.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        asked = re.findall("^Requires-Dist: .*", archive.read(name).decode(), re.MULTILINE)
    pins = (ROOT / "constraints.txt").read_text()
    if "render" not in extras:  # then it is not the numpy 1 of Blender
        pins = re.sub("^numpy==.*", "", pins, flags=re.MULTILINE)
    if packages:  # never the PyTorch for CUDA, of many gigabytes
        pins = "\n".join(re.findall("^torch==.*", pins, re.MULTILINE))
    key = hashlib.sha256("\n".join([python, pins, *asked, *packages]).encode()).hexdigest()
    pip = (folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    with (KEPT / "lock").open("w") as lock, tempfile.NamedTemporaryFile("w") as constraints:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = folder / "ready"
        if ready.is_file() and ready.read_text() == key:
            run(*pip, "--no-deps", "--force-reinstall", wheel)
            return folder / "bin"
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "virtualenv", "-q", "-p", python, folder)
        constraints.write(pins)
        constraints.flush()
        run(*pip, "-c", constraints.name, f"{wheel}[{extras}]" if extras else wheel, *packages)
        ready.write_text(key)
    return folder / "bin"


def run(*command: str | Path) -> None:
    """Run a command that must succeed; what it said is shown if it does not."""
    done = subprocess.run([str(c) for c in command], env=CLEAN, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def size(commands: Path) -> int:
    """What an environment's packages and pip take on the disk, in MiB."""
    (packages,) = commands.parent.glob("lib/python*/site-packages")
    command = ["du", "-sm", str(packages)]
    return int(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    )


def print_sizes() -> None:
    """Print what the core weighs, and what each extra adds to it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.TemporaryDirectory() as folder:
        (wheel,) = build(Path(folder), "--wheel").glob("*.whl")
        core = size(environment(wheel))
        print(f"core    {core:6} MiB")
        for extra in project["optional-dependencies"]:
            if extra != "dev":
                more = size(environment(wheel, extra)) - core
                print(f"{extra:7} {more:+6} MiB", flush=True)


if __name__ == "__main__":
    print_sizes()

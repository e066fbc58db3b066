"""What this machine can do, and what it lacks: `tvr doctor`.

Blender and the training libraries are loaded in processes of their own, so that one that is
broken enough to crash becomes a line of the report and takes nothing down with it. This module
knows what the others need; it repairs nothing.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import star_tvr
from star_tvr.extras import require
from star_tvr.generator import blender
from star_tvr.scenes.errors import TvrError

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
"""What training imports, in the order in which it is tried."""

DEADLINE = 300.0
"""Seconds that loading Blender or the training libraries may take."""

GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """The computer itself; sizes in GiB, `None` where the platform does not tell."""

    python: str
    platform: str
    cores: int
    memory: float | None
    free_disk: float


@dataclass(frozen=True)
class Rendering:
    """What Blender says of itself; `problem` is why it cannot render, or empty.

    `missing` maps shared libraries to Debian packages, `devices` the kinds of device that Cycles
    can use to their names.
    """

    problem: str = ""
    blender: str = ""
    devices: dict[str, list[str]] = field(default_factory=dict)
    denoiser: bool = False
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """The libraries that train; `problem` is why they cannot, or empty.

    `devices` maps the kinds of device that torch can use to their names.
    """

    problem: str = ""
    versions: dict[str, str | None] = field(default_factory=dict)
    devices: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class SystemReport:
    """The whole answer."""

    machine: Machine
    rendering: Rendering
    training: Training

    @property
    def ok(self) -> bool:
        """Whether this machine can both render and train."""
        return not self.rendering.problem and not self.training.problem

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {"ok": self.ok, **asdict(self)}


def check_system(folder: Path = Path()) -> SystemReport:
    """Look at this machine; `folder` is where free disk space is asked for."""
    with ThreadPoolExecutor() as pool:  # both wait for a process of their own
        rendering = pool.submit(_ask, "rendering")
        training = pool.submit(_ask, "training")
    missing = {name: blender.PACKAGES[name] for name in blender.missing_libraries()}
    versions = {name: _version(name) for name in LIBRARIES}
    return SystemReport(
        _machine(folder),
        Rendering(**rendering.result(), missing=missing),
        Training(**training.result(), versions=versions),
    )


def show(report: SystemReport, console: Console) -> None:
    """Print the report as a table, and one line for what is to be done."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _rows(report):
        table.add_row(f"[bold]{name}[/bold]", value)
    console.print(table)
    for work, part in (("render", report.rendering), ("train", report.training)):
        if part.problem:
            console.print(f"[red]cannot {work}[/red]: ", end="")
            console.print(part.problem, markup=False, highlight=False, soft_wrap=True)
        else:
            console.print(f"[green]can {work}[/green]")


def _rows(report: SystemReport) -> list[tuple[str, str]]:
    machine, rendering, training = report.machine, report.rendering, report.training
    memory = "unknown" if machine.memory is None else f"{machine.memory:.1f} GiB"
    rows = [
        ("Python", f"{machine.python} on {machine.platform}"),
        ("cores, memory", f"{machine.cores}, {memory}"),
        ("free disk", f"{machine.free_disk:.1f} GiB"),
        ("Blender (bpy)", rendering.blender or "does not load"),
        ("Cycles devices", _listing(rendering.devices)),
        ("OpenImageDenoise", "yes" if rendering.denoiser else "no"),
    ]
    if rendering.missing:
        rows.append(("missing libraries", ", ".join(rendering.missing)))
    rows += [(name, number or "not installed") for name, number in training.versions.items()]
    return [*rows, ("torch devices", _listing(training.devices))]


def _listing(devices: dict[str, list[str]]) -> str:
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in devices.items()) or "none"


def _machine(folder: Path) -> Machine:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (AttributeError, OSError, ValueError):
        memory = None
    return Machine(
        platform.python_version(),
        platform.platform(),
        blender.available_cores(),
        memory and round(memory, 1),
        round(shutil.disk_usage(folder).free / GIB, 1),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _ask(part: str) -> dict[str, Any]:
    """Have another process look at one part; what it found, or the problem that ended it."""
    command = [sys.executable, "-m", "star_tvr.generator.doctor", part]
    root = Path(star_tvr.__file__).parents[1]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        return {"problem": f"{part} libraries did not load within {DEADLINE:.0f} seconds"}
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    if done.returncode < 0:
        return {"problem": f"loading crashed: {signal.Signals(-done.returncode).name}"}
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return {"problem": f"loading failed: {lines[-1]}"}


def _look_at_rendering() -> dict[str, Any]:
    blender.start()
    cycles = import_module("_cycles")
    processors = [name for name, kind, *_ in cycles.available_devices("NONE") if kind == "CPU"]
    return {
        "blender": blender.version(),
        "devices": {"cpu": processors, **blender.found_devices()},
        "denoiser": bool(cycles.with_openimagedenoise),
    }


def _look_at_training() -> dict[str, Any]:
    require("training", *LIBRARIES)
    for name in LIBRARIES:
        try:
            import_module(name)
        except Exception as problem:  # a broken library may raise anything
            reason = " ".join(str(problem).split())
            return {"problem": f"{name} cannot be imported: {reason}"}
    torch = import_module("torch")
    devices = {"cpu": [f"{torch.get_num_threads()} threads"]}
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        devices["cuda"] = [f"{c.name} ({c.total_memory / GIB:.0f} GiB)" for c in cards]
    if torch.backends.mps.is_available():
        devices["mps"] = ["Apple GPU"]
    return {"devices": devices}


def _answer(part: str) -> None:
    """What the other process does: look, and write what it found as one line."""
    with os.fdopen(os.dup(1), "w") as out:  # Blender will have descriptor 1 to itself
        try:
            found = {"rendering": _look_at_rendering, "training": _look_at_training}[part]()
        except TvrError as problem:
            found = {"problem": str(problem)}
        out.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _answer(sys.argv[1])

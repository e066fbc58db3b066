"""Everything about Blender as a program: starting it quietly, its devices, and its versions.

This module knows nothing about scenes or pictures. Whatever differs between Blender 4.5 and 5.0
is here and nowhere else.
"""

import ctypes
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from star_tvr.generator.errors import RenderError
from star_tvr.scenes.errors import ParameterError

DEVICES = ("optix", "cuda", "hip", "oneapi", "metal")
"""The kinds of GPU that Cycles knows, in the order in which `auto` prefers them."""

PACKAGES = {
    "libX11.so.6": "libx11-6",
    "libXi.so.6": "libxi6",
    "libXrender.so.1": "libxrender1",
    "libXfixes.so.3": "libxfixes3",
    "libXext.so.6": "libxext6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libGL.so.1": "libgl1",
    "libuuid.so.1": "libuuid1",
}
"""The shared libraries that bpy needs from the system, and their Debian packages."""

FIXED_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_ADDR_NO_RANDOMIZE = 0x0040000
_ASK_PERSONALITY = 0xFFFFFFFF

_stdout: TextIO | None = None


def silence(log: Path | None = None) -> TextIO:
    """Keep everything that Blender prints out of the way from now on; call it before `load`.

    Blender prints on file descriptors 1 and 2 behind Python's back, up to dozens of lines a
    frame. Both are led to `log` (or nowhere). Python's own `sys.stderr` keeps showing tracebacks
    where it did; `sys.stdout` goes with descriptor 1, so that no stray print can spoil what a
    caller writes to the stream that is returned.

    For programs whose process is theirs, such as a worker.

    Returns:
        The standard output that the process was started with. A second call returns it again.
    """
    global _stdout
    if _stdout is None:
        sys.stdout.flush()
        sys.stderr.flush()
        _stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
        sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)
        sink = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.close(sink)
    return _stdout


def start(log: Path | None = None) -> TextIO:
    """`silence` the process, then `load` Blender; returns the real standard output.

    Raises:
        RenderError: bpy cannot be imported.
    """
    stdout = silence(log)
    load()
    return stdout


@cache
def load() -> Any:
    """The module bpy, holding an empty file and factory settings whatever the user's are.

    Raises:
        RenderError: it is not installed, or the system lacks a library that it needs.
    """
    try:
        import bpy
    except ImportError as problem:
        raise RenderError(_why_not(problem)) from None
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return bpy


def _why_not(problem: ImportError) -> str:
    if isinstance(problem, ModuleNotFoundError) and problem.name == "bpy":
        return "bpy is not installed in this Python; with 3.11, pip install 'star-tvr[render]'"
    missing = dict.fromkeys(re.findall(r"lib[\w+-]+\.so[.\d]*", str(problem))[:1])
    missing.update(dict.fromkeys(missing_libraries()))
    packages = [PACKAGES[name] for name in missing if name in PACKAGES]
    if packages:
        return (
            f"Blender needs {', '.join(missing)}, missing on this system; "
            f"on Debian or Ubuntu run: apt-get install {' '.join(packages)}"
        )
    return f"bpy cannot be imported: {' '.join(str(problem).split())}"


def missing_libraries() -> list[str]:
    """Those of `PACKAGES` that the system cannot load."""
    return [name for name in PACKAGES if not _loadable(name)] if sys.platform == "linux" else []


def _loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


# Versions


def version() -> str:
    """Blender's version, for example 4.5.15."""
    return str(load().app.version_string).split()[0]


def index_pass() -> str:
    """What the object index pass is called in a multilayer EXR file."""
    return "Object Index" if load().app.version >= (5, 0, 0) else "IndexOB"


def write_layers(settings: Any) -> None:
    """Make a scene's `image_settings` write every pass to one file, as plain 32-bit floats."""
    if load().app.version >= (5, 0, 0):
        settings.media_type = "MULTI_LAYER_IMAGE"
        settings.use_exr_interleave = True
    settings.file_format = "OPEN_EXR_MULTILAYER"
    settings.color_depth = "32"
    settings.exr_codec = "NONE"


# Devices


def available_cores() -> int:
    """The processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def found_devices() -> dict[str, list[str]]:
    """The names of the GPUs that Cycles can use on this machine, by their kind in `DEVICES`."""
    preferences = _cycles_preferences()
    found = {
        kind: [d.name for d in preferences.get_devices_for_type(kind.upper())] for kind in DEVICES
    }
    return {kind: names for kind, names in found.items() if names}


def check_device(wanted: str) -> None:
    """Raise ParameterError for what is no device anywhere; `auto` and `cpu` are."""
    known = ("auto", "cpu", *DEVICES)
    if wanted not in known:
        raise ParameterError("device", f"known are {', '.join(known)}", wanted)


def choose_device(wanted: str, found: Mapping[str, Sequence[str]] | None = None) -> str:
    """The kind of device to render on: one of `DEVICES`, or `cpu`.

    Args:
        wanted: a kind, or `auto` for the fastest that exists.
        found: what the machine has, by default what Cycles reports.

    Raises:
        ParameterError: the kind is unknown, or the machine has no such device.

    >>> choose_device("auto", {"cuda": ["A GPU"], "optix": ["A GPU"]})
    'optix'
    >>> choose_device("auto", {})
    'cpu'
    """
    check_device(wanted)
    if wanted == "cpu":
        return wanted
    if found is None:
        found = found_devices()
    available = [kind for kind in DEVICES if found.get(kind)]
    if wanted == "auto":
        return available[0] if available else "cpu"
    if wanted not in available:
        usable = ", ".join([*available, "cpu"])
        message = f"Blender finds no such device on this machine; it can use {usable}"
        raise ParameterError("device", message, wanted)
    return wanted


def use_device(scene: Any, device: str, gpu_index: int | None = None) -> None:
    """Render this scene on a device that `choose_device` has named.

    Args:
        gpu_index: the number of the only GPU of that kind to use, counted round; None for all.
    """
    preferences = _cycles_preferences()
    scene.cycles.device = "CPU" if device == "cpu" else "GPU"
    scene.cycles.denoising_use_gpu = device != "cpu"
    preferences.compute_device_type = "NONE" if device == "cpu" else device.upper()
    if device != "cpu":
        preferences.refresh_devices()
        switch_on(preferences.devices, preferences.compute_device_type, gpu_index)


def switch_on(entries: Iterable[Any], kind: str, gpu_index: int | None = None) -> None:
    """Use the GPUs of one kind among Cycles' devices, or just one of them, and nothing else."""
    entries = list(entries)
    mine = [entry for entry in entries if entry.type == kind]
    if gpu_index is not None and mine:
        mine = [mine[gpu_index % len(mine)]]
    for entry in entries:
        entry.use = any(entry is one for one in mine)


def _cycles_preferences() -> Any:
    return load().context.preferences.addons["cycles"].preferences


# Reproducible processes


def reproducible_command(argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` so that two runs of Blender give the same bytes.

    The last bits of Cycles' colours depend on where things lie in memory and on the order of
    Python's sets. The command fixes both, as far as the platform allows, and then becomes `argv`.
    """
    return [sys.executable, "-m", "star_tvr.generator.blender", *argv]


def is_reproducible() -> bool:
    """Whether this process was started by a `reproducible_command` that could do its work."""
    hashes_fixed = os.environ.get("PYTHONHASHSEED") == FIXED_ENVIRONMENT["PYTHONHASHSEED"]
    return hashes_fixed and bool(_personality(_ASK_PERSONALITY) & _ADDR_NO_RANDOMIZE)


def _personality(flags: int) -> int:
    """The Linux call: sets the process's flags, returns the former ones (0 elsewhere)."""
    if sys.platform != "linux":
        return 0
    former = int(ctypes.CDLL(None).personality(ctypes.c_ulong(flags)))
    return max(former, 0)  # -1: the sandbox forbids it


def _become(argv: Sequence[str]) -> None:
    """Replace this process by `argv`, with fixed addresses and environment."""
    _personality(_personality(_ASK_PERSONALITY) | _ADDR_NO_RANDOMIZE)
    os.execvpe(argv[0], list(argv), {**os.environ, **FIXED_ENVIRONMENT})


if __name__ == "__main__":
    _become(sys.argv[1:])

"""Starting Blender, its devices, and processes that give the same bytes twice."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from star_tvr.generator import blender
from star_tvr.generator.errors import RenderError
from star_tvr.scenes.errors import ConfigError

ROOT = Path(__file__).parents[2]

GPU_MACHINE = {"cuda": ["NVIDIA Something"], "optix": ["NVIDIA Something"]}


@pytest.mark.parametrize(
    ("wanted", "found", "chosen"),
    [
        ("auto", GPU_MACHINE, "optix"),
        ("auto", {"hip": ["AMD Something"], "oneapi": []}, "hip"),
        ("auto", {}, "cpu"),
        ("cuda", GPU_MACHINE, "cuda"),
        ("cpu", GPU_MACHINE, "cpu"),
    ],
)
def test_device_is_chosen_from_what_exists(wanted, found, chosen):
    assert blender.choose_device(wanted, found) == chosen


def test_missing_device_is_an_error_that_names_it_and_the_alternatives():
    with pytest.raises(ConfigError, match="device=metal: .*optix, cuda, cpu"):
        blender.choose_device("metal", GPU_MACHINE)
    with pytest.raises(ConfigError, match="device=abacus: known are auto, cpu, optix"):
        blender.choose_device("abacus", GPU_MACHINE)


@dataclass
class Entry:
    """Stands in for an entry of Cycles' list of devices."""

    name: str
    type: str
    use: bool = True


@pytest.mark.parametrize(
    ("gpu_index", "used"), [(None, ["a", "b"]), (0, ["a"]), (1, ["b"]), (2, ["a"]), (5, ["b"])]
)
def test_a_process_uses_all_gpus_of_a_kind_or_its_own(gpu_index, used):
    entries = [Entry("cpu", "CPU"), Entry("a", "CUDA"), Entry("o", "OPTIX"), Entry("b", "CUDA")]
    blender.switch_on(iter(entries), "CUDA", gpu_index)
    assert [e.name for e in entries if e.use] == used


def test_auto_finds_something_on_this_machine():
    assert blender.choose_device("auto") in ("cpu", *blender.found_devices())


class Refusing:
    """Stands in for the import system of a machine where bpy cannot be loaded."""

    def __init__(self, problem: ImportError):
        self.problem = problem

    def find_spec(self, name, path=None, target=None):
        if name == "bpy":
            raise self.problem


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            ImportError("libXi.so.6: cannot open shared object file: No such file or directory"),
            r"needs libXi.so.6.*apt-get install libxi6",
        ),
        (ImportError("something\nelse"), "bpy cannot be imported: something else"),
        (ModuleNotFoundError("No module named 'bpy'", name="bpy"), "not installed"),
    ],
)
def test_bpy_that_cannot_be_imported_is_one_line(monkeypatch, problem, message):
    monkeypatch.delitem(sys.modules, "bpy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(problem), *sys.meta_path])
    monkeypatch.setattr(blender, "missing_libraries", list)
    with pytest.raises(RenderError, match=message) as caught:
        blender.load.__wrapped__()
    assert "\n" not in str(caught.value)


def test_every_missing_library_is_named_at_once(monkeypatch):
    problem = ImportError("libXi.so.6: cannot open shared object file")
    monkeypatch.delitem(sys.modules, "bpy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(problem), *sys.meta_path])
    monkeypatch.setattr(blender, "missing_libraries", lambda: ["libXi.so.6", "libSM.so.6"])
    with pytest.raises(RenderError, match="apt-get install libxi6 libsm6$"):
        blender.load.__wrapped__()


RENDER_TWICE = """
import hashlib, json, os, sys
from star_tvr.generator import blender
stdout = blender.start()
from star_tvr.generator.frames import render_frame
from star_tvr.generator.stage import Stage
from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.plan import Light
from star_tvr.scenes.states import SceneObject
from star_tvr.schemas.config import load_config

stage = Stage(load_config("trance", ["image.width=64", "image.height=48", "render.samples=4"]))
stage.light({"key": Light((6.0, -3.0, 4.0), (1.0, 1.0, 1.0), 0.5, 300.0)})
stage.point_camera(Camera((9.481, 0.0, 6.344)))
stage.show((
    SceneObject(0, "cube", "large", "red", "metal", 1.0, -1.5, 0.3),
    SceneObject(1, "sphere", "large", "cyan", "glass", 0.0, 1.5, 0.0),
))
print("chatter of Python code")
os.write(1, b"chatter of Blender")
os.write(2, b"chatter of Blender")
frames = [render_frame(stage) for _ in range(2)]
digests = [
    [hashlib.sha256(a.tobytes()).hexdigest() for a in (f.image, f.mask, f.depth)] for f in frames
]
print(json.dumps([blender.is_reproducible(), digests]), file=stdout, flush=True)
"""


def test_a_reproducible_process_prints_only_our_words_and_repeats_every_byte():
    argv = blender.reproducible_command([sys.executable, "-c", RENDER_TWICE])
    running = [
        subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = []
    for process in running:
        stdout, stderr = process.communicate(timeout=300)
        assert (process.returncode, stderr) == (0, "")
        answers.append(json.loads(stdout))
    fixed, [first, second] = answers[0]
    assert first == second
    if fixed:  # a sandbox may forbid it
        assert answers[0] == answers[1]

"""The command line as such: help, usage errors, tracebacks, and what it loads."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from star_tvr import tvr as command_line
from star_tvr.generator.blender import DEVICES
from star_tvr.generator.executors import choose_executor
from star_tvr.generator.split_schemes import SCHEMES
from star_tvr.scenes.errors import ConfigError, ParameterError
from star_tvr.schemas.config import QUALITIES
from star_tvr.training.exports.export_dataset import FORMATS
from tests.generator.command import TVR, tvr


def error(*arguments):
    """The one line that a wrong command prints, with exit status 2."""
    done = tvr(*arguments)
    assert done.returncode == 2, (done.returncode, done.stderr[-1000:])
    assert "Traceback" not in done.stderr + done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    return line


def test_help_names_the_commands():
    done = tvr("--help")
    assert done.returncode == 0
    for command in ("render", "split", "validate", "train"):
        assert command in done.stdout


@pytest.mark.parametrize("command", [["render"], ["split"], ["validate"], ["train"]])
def test_commands_have_help(command):
    done = tvr(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


LOADED = """
import json, sys
from star_tvr import tvr
try:
    tvr.main(json.loads(sys.argv[1]))
except SystemExit as end:
    assert not end.code, end.code
print("loaded:", *{m.partition(".")[0] for m in sys.modules})
"""


def loaded(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps([str(a) for a in arguments])],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["render", "--help"], ["train", "--help"]])
def test_help_is_light(arguments):
    assert not loaded(*arguments) & {"bpy", "torch", "transformers", "datasets", "matplotlib"}


def test_the_module_is_the_command(tmp_path):
    repository = Path(__file__).parents[1]
    command = [sys.executable, "-m", "tvr", "render", str(tmp_path / "d"), "--shard", "5/2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --shard 5/2")
    assert TVR.is_file()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rendre"], "rendre"),
        (["render"], "OUT|out"),
        (["render", "d", "--num-samples", "-3"], "num-samples"),
        (["render", "d", "--num-samples", "0"], "num-samples"),
        (["render", "d", "--num-samples", "many"], "num-samples"),
        (["render", "d", "--workers", "0"], "workers"),
        (["render", "d", "--seed", "-1"], "seed"),
        (["render", "d", "--colour", "red"], "--colour"),
        (["render", "d", "e"], "e"),
        (["split", "d", "--seed", "x"], "seed"),
        (["validate"], "DATASET|dataset"),
    ],
)
def test_wrong_usage_is_one_line_and_status_two(tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    line = error(*arguments)
    assert any(word in line for word in expected.split("|")), line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "imgae.width=3"], "imgae: unknown key; did you mean image"),
        (["--set", "image.width"], "write key=value"),
        (["--set", "objects.visible=[5, 2]"], "objects.visible: [5, 2] is reversed"),
        (["--set", "transformations.attributes=[colour]"], "'colour' is not one of"),
        (["--set", "objects.visible=200"], "objects.visible: 200 objects cannot stand"),
        (["--set", "visibility.min_pixels=90000"], "visibility.min_pixels"),
        (["--set", "cameras.jitter=.nan"], "cameras.jitter"),
        (["--config", "nope"], "neither a preset"),
        (["--config", "nope.yaml"], "nope.yaml: there is no such file"),
    ],
)
def test_wrong_configurations_are_one_line_and_status_two(tmp_path, arguments, expected):
    line = error("render", tmp_path / "d", *arguments)
    assert line.startswith("error: ")
    assert expected in line
    assert not list(tmp_path.iterdir())


def test_a_wrong_parameter_is_shown_as_the_option():
    """Also when it comes from another process."""
    for value, shown in ((None, ""), ("x", " x"), (0, " 0"), ((45, 15), " 45,15")):
        problem = pickle.loads(pickle.dumps(ParameterError("hold_out", "is wrong", value)))
        assert isinstance(problem, ConfigError) and "--" not in str(problem)
        assert command_line._message(problem) == f"--hold-out{shown}: is wrong"
    assert command_line._message(ParameterError("plans", "no", "p")) == "--from p: no"


def test_choices_are_those_of_the_library():
    assert get_args(command_line.Scheme) == tuple(SCHEMES)
    assert get_args(command_line.Quality) == tuple(QUALITIES)
    assert get_args(command_line.ExportFormat) == tuple(FORMATS)
    assert get_args(command_line.Device) == ("auto", "cpu", *DEVICES)
    for name in get_args(command_line.Executor):
        choose_executor(name)
    with pytest.raises(ParameterError, match="^executor=slurm: known are local, ray"):
        choose_executor("slurm")


def test_a_yaml_file_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("preset: star\n1: 2\n")
    assert "mine.yaml" in error("render", tmp_path / "d", "--config", path)


def test_a_traceback_only_with_debug(tmp_path):
    arguments = ["render", tmp_path / "d", "--set", "image"]
    assert "Traceback" not in tvr(*arguments).stderr
    done = tvr("--debug", *arguments)
    assert "Traceback" in done.stderr
    assert "ParameterError" in done.stderr
    assert done.returncode == 2


def test_progress_goes_to_stderr(tmp_path):
    done = tvr("render", tmp_path / "d", "--config", "basic", "--num-samples", "1", *SMALL)
    assert done.returncode == 0
    assert re.fullmatch(r"rendering: 1 of 1, 0 s left, [0-9.]+ frames/min\n", done.stderr)
    (line,) = done.stdout.splitlines()
    assert "1 samples rendered (2 frames)" in line


SMALL = [
    *("--set", "image.width=32", "--set", "image.height=24"),
    *("--set", "render.samples=1", "--set", "render.denoise=false"),
]


def test_another_folder_and_odd_names_do_not_matter(tmp_path):
    out = tmp_path / "a name with spaces é"
    done = tvr(
        *("render", out.name, "--config", "basic", "--num-samples", "1", *SMALL),
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert (out / "samples/00000/000000/sample.json").is_file()
    assert tvr("validate", out.name, cwd=tmp_path).returncode == 0


# --- The terminal


INTERRUPTED = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), getattr(signal, sys.argv[2]))

sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
sys.argv[0] = "tvr"
from star_tvr.tvr import main
main(["stats", "nowhere"])
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("module", ["typer", "star_tvr.extras", "star_tvr.schemas.dataset"])
def test_interrupted_while_modules_are_loaded(module, name, status):
    command = [sys.executable, "-c", INTERRUPTED, module, name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        *(status, "stopped; the same command goes on from here\n"),
    )


@pytest.mark.parametrize("arguments", [["--help"], ["doctor"], ["doctor", "--json"]])
def test_nobody_reads_the_output(arguments):
    """As in `tvr doctor | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([str(TVR), *arguments], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == (1 if arguments == ["--help"] else 141)


FULL = "error: <stdout>: cannot be written (No space left on device); send it elsewhere\n"
PRINTING = ("--help", "train --help", "doctor --json")


def test_closed_and_full_streams():
    for command, status, words in (
        ('"$0" doctor --json >&-', 0, ""),
        ('"$0" rendre >&- <&-', 2, "error: No such command"),
        ('"$0" rendre >&- 2>&-', 2, ""),
        ('"$0" rendre 2>/dev/full', 1, ""),
        *((f'"$0" {words} >/dev/full', 1, FULL) for words in PRINTING),
    ):
        done = subprocess.run(["sh", "-c", command, TVR], capture_output=True, text=True)
        assert done.returncode == status, (command, done.stderr)
        assert done.stderr.startswith(words) and "Traceback" not in done.stderr
        assert done.stderr.count("\n") == bool(words)


def test_names_of_files_are_shown_without_control_characters(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff\x1b[31m\n")
    shown = f"{tmp_path}/\\udcff\\x1b[31m\\n"
    message = f"error: {shown}: is not a data set (there is no dataset.json in it)\n"
    assert tvr("stats", folder).stderr == message

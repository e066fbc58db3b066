"""constraints-gpu.txt: the versions that are tested, and vLLM, on a Python that has no bpy."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

EXTRAS = ("train", "quantize", "ask", "report")

OTHERWISE = {"fastapi", "numpy", "pyarrow"}
"""What vLLM, or a Python without bpy, wants in other versions."""


def pins(name: str) -> dict[str, str]:
    lines = [x for x in (ROOT / name).read_text().splitlines() if not x.startswith("#")]
    pairs = [re.fullmatch(r"([\w.-]+)==(\S+)", line).groups() for line in lines]
    return {canonicalize_name(package): version for package, version in pairs}


def test_they_are_the_versions_that_the_tests_pass_with():
    here, gpu = pins("constraints.txt"), pins("constraints-gpu.txt")
    differ = {name for name in here.keys() & gpu.keys() if here[name] != gpu[name]}
    assert differ <= OTHERWISE, {name: (here[name], gpu[name]) for name in differ - OTHERWISE}
    assert {"torch", "transformers", "trl", "peft", "vllm", "openai"} <= gpu.keys()
    assert "bpy" not in gpu


def test_they_fit_the_extras_on_python_3_12():
    gpu = pins("constraints-gpu.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(text for name in EXTRAS for text in extras[name])]:
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"python_version": "3.12"}):
            version = gpu[canonicalize_name(wanted.name)]
            assert wanted.specifier.contains(version), (text, version)


def test_a_resolver_takes_them_together():
    """Reads metadata alone and installs nothing."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not installed")
    command = [str(uv), "pip", "compile", "-q", "--no-header", "--no-annotate"]
    command += ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_28"]
    command += [f"--extra={name}" for name in EXTRAS]
    command += ["-c", "constraints-gpu.txt", "pyproject.toml", "-"]
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            input="vllm\n",
            capture_output=True,
            text=True,
            timeout=300,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the registry is slow")
    trouble = "error sending request|dns error|Failed to fetch|offline"
    if done.returncode and re.search(trouble, done.stderr):
        pytest.skip("no registry answers")
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(line.split("==") for line in done.stdout.splitlines() if "==" in line)
    assert {canonicalize_name(k): v for k, v in found.items()} == pins("constraints-gpu.txt")

"""What holds the project together: pins, declared dependencies, packaged files, the set-up."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from star_tvr.extras import EXTRAS
from star_tvr.generator.blender import PACKAGES

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "star_tvr"
OURS = {"examples", "star_tvr"}
FROM_BPY = {"_cycles", "bmesh", "mathutils"}

project = tomllib.loads((ROOT / "pyproject.toml").read_text())
dependencies = [Requirement(r) for r in project["project"]["dependencies"]]
extras = {
    name: [Requirement(r) for r in requirements]
    for name, requirements in project["project"]["optional-dependencies"].items()
}
(everything,) = extras.pop("all")
pins: dict[str, str] = {
    canonicalize_name(name): pinned
    for name, pinned in re.findall(
        r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}


@pytest.mark.parametrize("requirement", [*dependencies, *chain(*extras.values())], ids=str)
def test_every_dependency_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    if requirement.marker is None or requirement.marker.evaluate():
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_pins_are_what_is_tested() -> None:
    assert pins["torch"] == "2.13.0"
    installed = {name: Version(version(name)).public for name in pins}
    assert installed == {name: Version(pinned).public for name, pinned in pins.items()}


def imports(file: Path) -> set[str]:
    """The top-level names of all modules that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(r.name) for r in requirements}


def test_every_import_is_declared() -> None:
    providers = packages_distributions()
    for file in (*PACKAGE.glob("*.py"), *PACKAGE.glob("*/**/*.py")):
        if file.parent.name == "integrations":
            continue  # each is for users of the library that it imports
        for name in imports(file) - OURS - FROM_BPY - set(sys.stdlib_module_names):
            distributions = {canonicalize_name(d) for d in providers.get(name, [name])}
            declared = names(extras[EXTRAS[name]] if name in EXTRAS else dependencies)
            assert distributions & declared, f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("part", ["*.py", "commands/*.py", "scenes/**/*.py", "schemas/**/*.py"])
def test_worlds_and_files_need_no_extra(part: str) -> None:
    for file in PACKAGE.glob(part):
        assert not imports(file) & EXTRAS.keys(), file


def test_all_is_every_extra_but_that_of_developers() -> None:
    assert everything.extras == extras.keys() - {"dev"}
    assert set(EXTRAS.values()) <= everything.extras
    heavy = names([*chain(*(extras[name] for name in everything.extras))]) - {"numpy"}
    assert not heavy & names(dependencies)


def test_every_file_of_a_package_is_packaged() -> None:
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    for file in (*PACKAGE.glob("*"), *PACKAGE.glob("*/**/*")):
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".py":
            assert any(file.match(pattern) for pattern in patterns), file


def test_set_up_installs_the_libraries_that_doctor_knows() -> None:
    lines = (ROOT / ".ci/packages.txt").read_text().splitlines()
    assert dict(line.split() for line in lines if not line.startswith("#")) == PACKAGES


def test_pre_commit_runs_make_lint() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]] == ["make lint"]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "none of python runs"),
        ("Python 3.12.4", "python is Python 3.12.4"),
    ],
)
def test_a_missing_or_wrong_python_is_one_line(tmp_path: Path, found: str, says: str) -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "cat", "cksum", "make"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    if found:
        (tools / "python").write_text(f"#!/bin/sh\necho '{found}'\n")
        (tools / "python").chmod(0o755)
    environment = {**os.environ, "PATH": str(tools), "PYTHON": "python"}
    done = subprocess.run(
        ["make", "demo"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(ours) == 1 and says in ours[0] and "Python 3.11 is needed" in ours[0]
    assert not (tmp_path / ".venv").exists()

"""Files that are made from the code are fresh, and the code keeps to what the drawing shows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from docs.drawing import PLACES, imports, levels

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "commands": {"generator", "training", "schemas", "scenes"},
    "generator": {"schemas", "scenes"},
    "training": {"schemas", "scenes"},
    "schemas": {"scenes"},
    "scenes": set(),
}


def test_generated_files_are_fresh():
    command = [sys.executable, "-m", "docs.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_point_one_way():
    assert MAY_IMPORT.keys() == PLACES.keys()
    for module, needed in imports(ROOT).items():
        room = module.partition(".")[0]
        for other in needed:
            target = other.partition(".")[0]
            assert target == room or target in MAY_IMPORT[room], f"{module} imports {other}"


@pytest.mark.parametrize("room", PLACES)
def test_no_two_files_need_each_other(room):
    needs = {m: n for m, n in imports(ROOT).items() if m.startswith(f"{room}.")}
    assert sum(map(len, levels(needs))) == len(needs)


def properties(node, path=""):
    """Every property that a schema defines, at any depth, by its path."""
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    for key, part in parts:
        if key in ("if", "then", "else"):  # conditions on properties that are defined elsewhere
            continue
        if key == "properties":
            yield from ((f"{path}/{name}", inner) for name, inner in part.items())
        if isinstance(part, dict | list):
            yield from properties(part, f"{path}/{key}")


@pytest.mark.parametrize(
    "name", ["config", "train", "dataset", "sample", "split", "prediction", "plan"]
)
def test_every_stored_field_is_described(name):
    schema = json.loads((ROOT / f"schemas/{name}.schema.json").read_text())
    assert not [k for k, v in properties(schema) if not {"description", "$ref"} & v.keys()]


def test_the_documented_sample_is_one():
    """What docs/dataset.md shows is what is planned and stored today."""
    from star_tvr.scenes.sampler import Sampler
    from star_tvr.schemas.config import load_config
    from star_tvr.schemas.dataset import read_sample

    sample = read_sample(ROOT / "docs/sample.json")
    changes = ["cameras.final=[center]", "objects.visible=2", "transformations.count=1"]
    plan = Sampler.from_config(load_config("proof", changes)).plan(0)
    assert sample.plan == plan

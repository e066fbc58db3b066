"""Data sets of format 1, from before scenes were chosen as now: read as ever, and not added to."""

import json
import shutil

import pytest

from star_tvr.scenes.seeds import derive
from star_tvr.schemas.dataset import Dataset, dumps
from tests.generator.command import SMALL, refused, tvr


@pytest.fixture
def former(star, tmp_path):
    """A copy of `star` with what format 1 had otherwise."""
    root = shutil.copytree(star, tmp_path / "data")
    path = root / "dataset.json"
    manifest = json.loads(path.read_text()) | {"schema_version": 1}
    del manifest["config"]["visibility"]["unbiased"]
    path.write_text(dumps(manifest))
    for path in root.glob("samples/*/*/sample.json"):
        document = json.loads(path.read_text()) | {"schema_version": 1}
        document["seed"] = derive(manifest["seed"], "sample", int(document["id"]))
        for transformation in document["transformations"]:
            transformation.pop("equivalents", None)
        path.write_text(dumps(document))
    return root


def test_it_is_valid_and_splits_as_ever(former):
    done = tvr("validate", former)
    assert done.returncode == 0, done.stdout
    assert tvr("split", former).returncode == 0
    assert len(list(Dataset.open(former).samples())) == 8


def test_no_sample_is_added_to_it(former):
    options = [option for change in SMALL for option in ("--set", change)]
    line = refused("render", former, "--num-samples", "9", *options, status=2)
    assert "earlier version" in line and "another folder" in line
    assert json.loads((former / "dataset.json").read_text())["schema_version"] == 1
    assert "0 samples rendered" in tvr("render", former, *options).stdout


def test_a_seed_of_now_is_none_of_then(former):
    path = next(former.glob("samples/*/000003/sample.json"))
    document = json.loads(path.read_text())
    path.write_text(dumps(document | {"seed": document["seed"] >> 11}))
    done = tvr("validate", former)
    assert done.returncode == 1 and "000003: seed: does not follow" in done.stdout

"""Data sets from before scenes were chosen as now: read as ever, and not added to."""

import json
import shutil

import pytest

from star_tvr.scenes.seeds import derive
from star_tvr.schemas.dataset import Dataset, dumps
from tests.generator.command import SMALL, refused, tvr


def old(root, version):
    """Make a data set one of an old format: formats 2 and 3 differ in which scenes follow."""
    path = root / "dataset.json"
    manifest = json.loads(path.read_text()) | {"schema_version": version}
    if version == 1:
        del manifest["config"]["visibility"]["unbiased"]
    path.write_text(dumps(manifest))
    for path in root.glob("samples/*/*/sample.json"):
        document = json.loads(path.read_text()) | {"schema_version": version}
        if version == 1:
            document["seed"] = derive(manifest["seed"], "sample", int(document["id"]))
            for transformation in document["transformations"]:
                transformation.pop("equivalents", None)
        path.write_text(dumps(document))
    return root


@pytest.fixture
def former(star, tmp_path):
    """A copy of `star` with what format 1 had otherwise."""
    return old(shutil.copytree(star, tmp_path / "data"), 1)


def test_it_is_valid_and_splits_as_ever(former):
    done = tvr("validate", former)
    assert done.returncode == 0, done.stdout
    assert tvr("split", former).returncode == 0
    assert len(list(Dataset.open(former).samples())) == 8


@pytest.mark.parametrize("version", [1, 2])
def test_no_sample_is_added_to_it(star, tmp_path, version):
    former = old(shutil.copytree(star, tmp_path / "data"), version)
    options = [option for change in SMALL for option in ("--set", change)]
    line = refused("render", former, "--num-samples", "9", *options, status=2)
    assert "earlier version" in line and "another folder" in line
    assert json.loads((former / "dataset.json").read_text())["schema_version"] == version
    assert "0 samples rendered" in tvr("render", former, *options).stdout


def test_a_seed_of_now_is_none_of_then(former):
    path = next(former.glob("samples/*/000003/sample.json"))
    document = json.loads(path.read_text())
    path.write_text(dumps(document | {"seed": document["seed"] >> 11}))
    done = tvr("validate", former)
    assert done.returncode == 1 and "000003: seed: does not follow" in done.stdout

"""`tvr split`: no scene in two splits, and each split sees what it should."""

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.splits import all_pairs, cross_view
from scenes.errors import ConfigError
from schemas.dataset import Dataset
from tests.generator.command import SMALLEST, refused, render, tvr

NAMES = ["train", "val", "test_id", "test_ood"]


@pytest.fixture
def writable(star, tmp_path):
    return shutil.copytree(star, tmp_path / "data")


def lines(root):
    folder = root / "splits" / "cross-view"
    return {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in NAMES
    }


def test_files_and_lines(writable):
    assert tvr("split", writable).returncode == 0
    found = lines(writable)
    assert sorted(p.name for p in (writable / "splits/cross-view").iterdir()) == sorted(
        f"{n}.jsonl" for n in NAMES
    )
    keys = {tuple(line) for split in found.values() for line in split}
    assert keys == {("sample", "initial", "final")}
    assert {line["sample"] for split in found.values() for line in split} == {
        f"{i:06d}" for i in range(8)
    }
    dataset = Dataset.open(writable)
    assert dataset.split_names() == sorted(f"cross-view/{n}" for n in NAMES)
    assert [p.to_json() for p in dataset.split("cross-view/test_ood")] == found["test_ood"]
    assert tvr("validate", writable).returncode == 0


def check(splits):
    scenes = [{p.sample for p in pairs} for pairs in splits.values()]
    assert all(scenes)
    assert sum(map(len, scenes)) == len(set().union(*scenes)) == 8
    for name, pairs in splits.items():
        other = name == "test_ood"
        assert all((p.initial != p.final) == other for p in pairs)
    assert {p.final for p in splits["test_ood"]} == {"left", "right"}
    assert {p.initial for pairs in splits.values() for p in pairs} == {"center"}
    assert len(splits["train"]) == max(map(len, splits.values()))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**9))
def test_any_seed(star, seed):
    dataset = Dataset.open(star)
    splits = cross_view(dataset, seed)
    assert list(splits) == NAMES
    check(splits)
    assert cross_view(dataset, seed) == splits


def test_seeds_differ(star):
    dataset = Dataset.open(star)
    assert len({repr(cross_view(dataset, seed)) for seed in range(5)}) > 1


def test_the_same_command_writes_the_same_bytes(writable):
    def run(*arguments):
        assert tvr("split", writable, *arguments).returncode == 0
        return {p: p.read_bytes() for p in writable.glob("splits/*/*")}

    first = run("--seed", "3")
    assert run("--seed", "4") != first
    assert run("--seed", "3") == first


def test_all_pairs_of_a_sample(star):
    pairs = all_pairs(Dataset.open(star).sample("000002"))
    assert {(p.initial, p.final) for p in pairs} == {
        ("center", "center"),
        ("center", "left"),
        ("center", "right"),
    }


def test_a_data_set_of_one_view_has_no_cross_view_split(tiny):
    line = refused("split", tiny)
    assert "cross-view" in line and "cameras" in line
    assert not (tiny / "splits").exists()


def test_too_few_samples(tmp_path):
    render(tmp_path / "d", "--num-samples", "3", overrides=SMALLEST)
    assert "3 samples" in refused("split", tmp_path / "d")
    with pytest.raises(ConfigError, match="render more"):
        cross_view(Dataset.open(tmp_path / "d"))


def test_wrong_arguments(star, tmp_path):
    assert "cross-view" in refused("split", star, "--scheme", "across")
    assert "not a data set" in refused("split", tmp_path, status=1)


def test_a_split_that_does_not_exist_names_the_others(writable):
    tvr("split", writable)
    with pytest.raises(Exception, match="test_odd.*cross-view/test_ood"):
        Dataset.open(writable).split("cross-view/test_odd")

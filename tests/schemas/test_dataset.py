"""The data set folder: samples are there whole or not at all."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import (
    FORMER,
    Dataset,
    Manifest,
    commit_sample,
    dumps,
    read_sample,
    remove_drafts,
    rendered,
    sample_folder,
    sample_id,
)
from star_tvr.schemas.files import write_whole, writer
from star_tvr.schemas.records import Pair

FILES = {"sample.json": b"{}", "initial-center.png": b"picture"}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "dataset.json").write_text(dumps(Manifest.of(load_config("star"), {}).to_json()))
    return tmp_path


def test_a_former_sample_comes_back_when_its_writer_was_killed(root):
    """Between the two renames: the former folder is out of the way, the new one not in place."""
    commit_sample(root, "000003", FILES)
    final = root / "samples/00000/000003"
    final.rename(final.with_name(f".000003.{FORMER}"))
    remove_drafts(root, ["000003"])
    assert list(rendered(root)) == ["000003"] and len(list(final.parent.iterdir())) == 1


def test_a_former_sample_stays_when_its_place_cannot_be_taken(root, monkeypatch):
    commit_sample(root, "000003", FILES)
    real = Path.rename

    def rename(path, target):
        if path.name == f".000003.{writer()}":
            raise OSError("the disk went away")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="went away"):
        commit_sample(root, "000003", {"sample.json": b"[]"})
    folder = root / "samples/00000/000003"
    assert (folder / "sample.json").read_bytes() == FILES["sample.json"]
    assert [p.name for p in folder.parent.iterdir()] == ["000003"]


def test_a_data_set_that_is_older_than_a_key_keeps_what_it_did(root):
    document = json.loads((root / "dataset.json").read_text())
    for key in ("adaptive", "guides", "sky"):
        del document["config"]["render"][key]
    for block, key in (("lights", "vary"), ("objects", "fixed")):
        del document["config"][block][key]
    document["config"]["render"]["samples"] = 32
    (root / "dataset.json").write_text(json.dumps(document))
    config = Dataset.open(root).config
    old = {"samples": 32, "adaptive": 0, "guides": True, "sky": 1.0}
    assert old.items() <= config.render.to_json().items()
    now = load_config("star")
    assert config.lights == now.lights and config.objects == now.objects


def everything(root):
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}


class Bomb(dict[str, bytes]):
    """Files of which the last cannot be had."""

    def items(self):
        yield "sample.json", b"{}"
        raise KeyboardInterrupt


@pytest.mark.parametrize("files", [Bomb(), {"a.png": b"x", "no/such/folder.png": b""}])
def test_an_interrupted_commit_leaves_nothing(root, files):
    with pytest.raises((KeyboardInterrupt, OSError)):
        commit_sample(root, "000003", files)
    assert list(rendered(root)) == []
    assert everything(root) == {"dataset.json"}
    assert not list(root.glob("samples/*/*"))


def test_an_interrupted_commit_keeps_what_was_there(root):
    commit_sample(root, "000003", FILES)
    with pytest.raises(KeyboardInterrupt):
        commit_sample(root, "000003", Bomb())
    folder = sample_folder(root, "000003")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == FILES


def test_a_commit_replaces_the_whole_folder(root):
    commit_sample(root, "000003", {"old.png": b"old"})
    commit_sample(root, "000003", FILES)
    folder = sample_folder(root, "000003")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == FILES
    assert not list(root.glob("samples/*/.*"))


def test_drafts_are_invisible_until_they_are_removed(root):
    commit_sample(root, "000001", FILES)
    draft = root / "samples/00000/.000002.99"
    draft.mkdir()
    (draft / "sample.json").write_text("{}")
    assert Dataset.open(root).ids() == ["000001"]
    remove_drafts(root, {"000005"})
    assert draft.exists()
    remove_drafts(root, {"000002"})
    assert not draft.exists()
    assert Dataset.open(root).ids() == ["000001"]


@given(st.integers(0, 10**8))
def test_a_thousand_samples_to_a_folder(tmp_path_factory, index):
    name = sample_id(index)
    folder = sample_folder(tmp_path_factory.getbasetemp(), name)
    assert int(name) == index and len(name) >= 6
    assert folder.name == name
    assert int(folder.parent.name) == index // 1000 and len(folder.parent.name) >= 5


def test_samples_come_in_order(root):
    for index in (2000, 3, 999, 1000, 0):
        commit_sample(root, sample_id(index), FILES)
    assert Dataset.open(root).ids() == ["000000", "000003", "000999", "001000", "002000"]


def test_more_than_a_million_samples_come_in_order(root):
    for index in (1_000_000, 999_999, 2):
        commit_sample(root, sample_id(index), FILES)
    assert [int(i) for i in Dataset.open(root).ids()] == [2, 999_999, 1_000_000]


def test_splits_round_trip(root):
    pairs = [Pair("000001", "center", "left"), Pair("000002", "center", "center")]
    dataset = Dataset.open(root)
    path = dataset.write_split("cross-view/train", pairs)
    assert path == root / "splits/cross-view/train.jsonl"
    assert dataset.split("cross-view/train") == pairs
    assert dataset.split_names() == ["cross-view/train"]
    with pytest.raises(DataError, match="train2.*known: cross-view/train"):
        dataset.split("cross-view/train2")


@pytest.mark.parametrize("name", ["../../secret", "cross-view/../../dataset", "", "/etc/passwd"])
def test_splits_are_looked_for_in_the_data_set_only(root, name):
    with pytest.raises(DataError, match="no such split"):
        Dataset.open(root).split(name)


def test_files_are_written_whole(tmp_path):
    path = tmp_path / "file.txt"
    write_whole(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "bad \ud800")
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_newer_data_sets_and_samples_are_refused(root):
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text.replace('"schema_version": 3', '"schema_version": 4'))
    with pytest.raises(DataError, match="dataset.json: schema_version 4 is newer.*upgrade"):
        Dataset.open(root)
    commit_sample(root, "000000", {"sample.json": b'{"schema_version": 7}'})
    with pytest.raises(DataError, match="sample.json: schema_version 7 is newer"):
        read_sample(sample_folder(root, "000000") / "sample.json")


def test_json_has_no_nan():
    with pytest.raises(ValueError, match="JSON compliant"):
        dumps({"a": float("nan")})

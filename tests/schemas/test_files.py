"""Single files: what is refused when they are read, and what is left when writing them fails."""

import os
from pathlib import Path

import pytest

from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.schemas.checks import parse_json
from star_tvr.schemas.config import load_config, parse_yaml
from star_tvr.schemas.dataset import Dataset, Manifest, commit_sample, dumps
from star_tvr.schemas.files import read_text, write_whole
from star_tvr.schemas.records import Pair


def test_only_ordinary_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(DataError, match=f"{path}: cannot be read"):
            read_text(path)


def test_files_are_of_bounded_size(tmp_path):
    (tmp_path / "long").write_text("x" * 101)
    assert read_text(tmp_path / "long", 101) == "x" * 101
    with pytest.raises(DataError, match="long: is longer than"):
        read_text(tmp_path / "long", 100)


def test_a_failed_write_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_whole(path, "old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"a": 1e999}', "1e999, which JSON does not allow"),
    ],
)
def test_json_is_strict(text, expected):
    with pytest.raises(DataError, match=f"^x.json: .*{expected}"):
        parse_json(text, "x.json")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BOMB, "too large or too deep"),
        ("a: &a [*a]", "too large or too deep"),
        ("[" * 5000, "cannot be read as YAML"),
        ("seed: 2026-13-45", "cannot be read as YAML .*line 1, column 7"),
        ("seed: 1\nimage: {width: !!bool maybe}", "cannot be read as YAML .*bool.*line 2"),
        ("seed: !!int ''", "cannot be read as YAML .*line 1"),
        ("seed: !!timestamp x", "cannot be read as YAML .*line 1"),
        ("seed: 2026-01-01", "seed: .*put it in quotes"),
        ("seed: " + "9" * 5000, "cannot be read as YAML"),
        ("preset: !!python/object:os.system {}", "cannot be read as YAML"),
        ("image: {width: .inf}", "image.width: inf is not a finite number"),
    ],
)
def test_yaml_is_bounded(tmp_path, text, expected):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{path}: .*{expected}"):
        load_config(path)


def test_a_long_file_of_yaml_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# " + "x" * 1_000_000)
    with pytest.raises(ConfigError, match="is longer than 1 MB"):
        load_config(path)


def test_numbers_of_yaml_are_those_of_json():
    assert parse_yaml("[64.0, 1.5, true, null, word]", "x") == [64, 1.5, True, None, "word"]
    assert type(parse_yaml("64.0", "x")) is int


def test_nothing_goes_through_a_link_that_leaves_the_data_set(tmp_path):
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (elsewhere / "train.jsonl").write_text("precious")
    (root / "dataset.json").write_text(dumps(Manifest.of(load_config("star"), {}).to_json()))
    (root / "splits").mkdir()
    (root / "splits/cross-view").symlink_to(elsewhere)
    (root / "samples").symlink_to(elsewhere)
    dataset = Dataset.open(root)
    pair = Pair("000000", "center", "left")
    for write in (
        lambda: dataset.write_split("cross-view/train", [pair]),
        lambda: dataset.split("cross-view/train"),
        lambda: commit_sample(root, "000000", {"sample.json": b"{}"}),
        lambda: dataset.sample("000000"),
    ):
        with pytest.raises(DataError, match="is a link"):
            write()
    assert [p.name for p in elsewhere.iterdir()] == ["train.jsonl"]
    assert (elsewhere / "train.jsonl").read_text() == "precious"

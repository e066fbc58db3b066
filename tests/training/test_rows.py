"""Rows: the right columns, both images in order, nothing read before it is needed."""

import shutil

import pytest

from scenes.errors import DataError
from schemas.dataset import Dataset
from schemas.records import Pair
from tests.training.discs import TRAIN, background
from training import rows
from training.prompts import PromptConfig
from training.rows import answer_only, build_rows

COMPACT = PromptConfig("compact", "cell")


@pytest.fixture
def copy(dataset, tmp_path) -> Dataset:
    """A copy of the data set that a test may damage."""
    shutil.copytree(dataset.root, tmp_path / "copy")
    return Dataset.open(tmp_path / "copy")


def test_columns_order_and_truth(dataset):
    table = build_rows(dataset, "cross-view/test_ood", COMPACT, answer_only)
    pairs = dataset.split("cross-view/test_ood")
    assert len(table) == len(pairs)
    for row, pair in zip(table, pairs, strict=True):
        assert Pair(row["sample"], row["initial"], row["final"]) == pair
        sample = dataset.sample(pair.sample)
        assert row["truth"] == ", ".join(str(t) for t in sample.plan.transformations)
        corners = [image.getpixel((0, 0)) for image in row["images"]]
        assert corners == [
            background(pair.sample, "initial", pair.initial),
            background(pair.sample, "final", pair.final),
        ]
        assert [image.mode for image in row["images"]] == ["RGB", "RGB"]
        [message] = row["completion"]
        assert message["role"] == "assistant"
        assert f"<answer>{row['truth']}</answer>" in message["content"][0]["text"]
        assert row["prompt"][-1]["role"] == "user"


def test_no_completion_without_supervision(dataset):
    assert "completion" not in build_rows(dataset, "cross-view/train", COMPACT)[0]


def test_nothing_is_read_before_it_is_needed(copy):
    (copy.folder("000002") / "final-center.png").unlink()
    shutil.rmtree(copy.folder("000003"))
    table = build_rows(copy, "cross-view/train", COMPACT)
    assert table[0]["sample"] == "000000"
    with pytest.raises(DataError, match=r"000002/final-center.png: there is no such image"):
        table[2]
    with pytest.raises(DataError, match=r"000003/sample.json: there is no such file"):
        table[3]
    assert table[4]["sample"] == "000004"


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 99])
def test_a_damaged_image_is_named(copy, damage):
    path = copy.folder("000001") / "initial-center.png"
    path.write_bytes(damage(path.read_bytes()))
    table = build_rows(copy, "cross-view/train", COMPACT)
    with pytest.raises(DataError, match=r"000001/initial-center.png: the image is damaged") as info:
        table[1]
    assert "\n" not in str(info.value)


def test_a_missing_view_is_named(copy):
    copy.write_split("own/views", [Pair("000000", "center", "top")])
    with pytest.raises(DataError, match="000000/sample.json: there is no final image from camera"):
        build_rows(copy, "own/views", COMPACT)[0]


def test_repeated_questions_are_made_once(dataset, monkeypatch):
    opened = []
    read = rows.read_rgb

    def noted(path):
        opened.append(path)
        return read(path)

    monkeypatch.setattr(rows, "read_rgb", noted)
    table = build_rows(dataset, "cross-view/train", COMPACT)
    batch = table.__getitems__([0, 0, 0, 1, 1, 1])
    assert [row["sample"] for row in batch] == ["000000"] * 3 + ["000001"] * 3
    assert len(opened) == 4
    assert batch[0]["images"][0] is batch[2]["images"][0]


def test_splits_must_be_there_and_hold_something(copy):
    with pytest.raises(DataError, match="there is no such split"):
        build_rows(copy, "cross-view/none", COMPACT)
    copy.write_split("cross-view/nothing", [])
    with pytest.raises(DataError, match=r"nothing.jsonl: the split is empty"):
        build_rows(copy, "cross-view/nothing", COMPACT)


def test_rows_survive_selection_and_shuffling(dataset):
    table = build_rows(dataset, "cross-view/train", COMPACT)
    assert [row["sample"] for row in table.select([3, 1])] == ["000003", "000001"]
    assert {row["sample"] for row in table.shuffle(seed=1)} == {f"{i:06d}" for i in range(TRAIN)}

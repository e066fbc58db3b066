"""Rows: the right columns, both images in order, nothing read before it is needed."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Pair
from star_tvr.training import images
from star_tvr.training.config import PromptConfig, TraceConfig
from star_tvr.training.pairs import choose_pairs, difficulties, epoch_order, shuffled_images
from star_tvr.training.rows import RowReader
from star_tvr.training.trace_checker import check_trace
from star_tvr.training.training_rows import build_rows
from tests.training.discs import TRAIN, background, make_dataset

COMPACT = PromptConfig(style="compact", location="cell")


def table_of(dataset, split, views="split", completion=None, count=None, order="stored", **options):
    """The rows of a split."""
    reader = RowReader(dataset, COMPACT, completion, **options)
    return build_rows(reader, choose_pairs(dataset, split, views), order, count)


@pytest.fixture
def copy(dataset, tmp_path) -> Dataset:
    """A copy of the data set that a test may damage."""
    shutil.copytree(dataset.root, tmp_path / "copy")
    return Dataset.open(tmp_path / "copy")


def test_columns_order_and_truth(dataset):
    table = table_of(dataset, "cross-view/test_ood", completion=TraceConfig())
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
        text = f"<think></think><answer>{row['truth']}</answer>"
        assert message["content"] == [{"type": "text", "text": text}]
        assert row["prompt"][-1]["role"] == "user"


def test_no_completion_without_supervision(dataset):
    assert "completion" not in table_of(dataset, "cross-view/train")[0]


def test_nothing_is_read_before_it_is_needed(copy):
    (copy.folder("000002") / "final-center.png").unlink()
    shutil.rmtree(copy.folder("000003"))
    table = table_of(copy, "cross-view/train")
    assert table[0]["sample"] == "000000"
    with pytest.raises(DataError, match=r"000002/final-center.png: there is no such file"):
        table[2]
    with pytest.raises(DataError, match=r"000003/sample.json: there is no such file"):
        table[3]
    assert table[4]["sample"] == "000004"


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 99])
def test_a_damaged_image_is_named(copy, damage):
    path = copy.folder("000001") / "initial-center.png"
    path.write_bytes(damage(path.read_bytes()))
    table = table_of(copy, "cross-view/train")
    with pytest.raises(DataError, match=r"000001/initial-center.png: the image is damaged") as info:
        table[1]
    assert "\n" not in str(info.value)


def save_as(path, **settings):
    """Store a picture again, in another kind of file or form."""
    with Image.open(path) as picture:
        form = settings.pop("mode", "RGB")
        shown = picture.convert(form).resize(settings.pop("size", picture.size))
    shown.save(path, settings.pop("format", "PNG"))


def link_elsewhere(path):
    secret = path.parents[4] / "private.png"
    path.rename(secret)
    path.symlink_to(secret)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: save_as(path, format="JPEG"),
        lambda path: save_as(path, format="GIF"),
        lambda path: save_as(path, mode="P"),
        lambda path: save_as(path, mode="RGBA"),
        lambda path: save_as(path, mode="L"),
        lambda path: save_as(path, size=(65, 48)),
        lambda path: save_as(path, size=(13_000, 13_000), mode="L"),
        link_elsewhere,
    ],
    ids=["jpeg", "gif", "palette", "alpha", "gray", "size", "bomb", "link"],
)
def test_only_the_pictures_of_the_data_set_are_shown(copy, change):
    change(copy.folder("000001") / "initial-center.png")
    with pytest.raises(DataError, match="000001/initial-center.png: .*; delete .* render again"):
        table_of(copy, "cross-view/train")[1]


def test_a_record_of_another_size_is_refused(copy):
    path = copy.folder("000001") / "sample.json"
    path.write_text(path.read_text().replace('"width": 64', '"width": 8000'))
    with pytest.raises(DataError, match="000001/sample.json: .* recorded as 8000 x 48, but .* 64"):
        table_of(copy, "cross-view/train")[1]


def test_a_missing_view_is_named(copy):
    copy.write_split("own/views", [Pair("000000", "center", "top")])
    with pytest.raises(DataError, match="000000/sample.json: there is no final image from camera"):
        table_of(copy, "own/views")[0]


def test_repeated_questions_are_made_once(dataset, monkeypatch):
    opened = []
    read = images.read_picture

    def noted(*arguments):
        opened.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(images, "read_picture", noted)
    table = table_of(dataset, "cross-view/train")
    batch = table.__getitems__([0, 0, 0, 1, 1, 1])
    assert [row["sample"] for row in batch] == ["000000"] * 3 + ["000001"] * 3
    assert len(opened) == 4
    assert batch[0]["images"][0] is batch[2]["images"][0]


def test_shuffled_images_come_from_other_scenes_with_the_same_cameras(dataset):
    pairs = choose_pairs(dataset, "cross-view/train", "all")
    others = shuffled_images(pairs)
    assert set(others) == set(others.values()) == set(pairs)
    reader = RowReader(dataset, COMPACT, image_sources=others)
    for pair, other in others.items():
        assert pair.sample != other.sample
        assert (pair.initial, pair.final) == (other.initial, other.final)
        row, own = reader.row(pair), RowReader(dataset, COMPACT).row(pair)
        assert row.pop("images") == RowReader(dataset, COMPACT).row(other)["images"]
        assert row == {k: v for k, v in own.items() if k != "images"}
    with pytest.raises(ConfigError, match="^shuffle_images: .* only one question from center"):
        shuffled_images(pairs[:1])


def test_splits_must_be_there_and_hold_something(copy):
    with pytest.raises(DataError, match="there is no such split"):
        table_of(copy, "cross-view/none")
    copy.write_split("cross-view/nothing", [])
    with pytest.raises(DataError, match=r"nothing.jsonl: the split is empty"):
        table_of(copy, "cross-view/nothing")


def test_rows_survive_selection_and_shuffling(dataset):
    table = table_of(dataset, "cross-view/train")
    assert [row["sample"] for row in table.select([3, 1])] == ["000003", "000001"]
    assert {row["sample"] for row in table.shuffle(seed=1)} == {f"{i:06d}" for i in range(TRAIN)}


# --- Which rows, and when ----------------------------------------------------------------------


def test_views_same_cross_and_all(dataset):
    def views(split, kind):
        return {(p.initial, p.final) for p in choose_pairs(dataset, split, kind)}

    ood = "cross-view/test_ood"
    assert views(ood, "cross") == {("center", "left"), ("center", "right")}
    assert views(ood, "all") == {("center", c) for c in ("left", "center", "right")}
    every = choose_pairs(dataset, ood, "all")
    assert len(every) == len(set(every)) == 3 * len({p.sample for p in every})
    assert {p.sample for p in every} == {p.sample for p in dataset.split(ood)}
    assert len(choose_pairs(dataset, "cross-view/train", "same")) == TRAIN
    assert views(ood, "same") == {("center", "center")}
    assert views("cross-view/train", "cross") == {("center", "left"), ("center", "right")}


def test_views_that_no_scene_has_are_refused(tmp_path):
    dataset = make_dataset(tmp_path / "one view", "basic")
    with pytest.raises(ConfigError, match="rows.views: .*train.jsonl have no pair of .* 'cross'"):
        choose_pairs(dataset, "cross-view/train", "cross")


def test_every_epoch_has_every_pair_in_an_order_of_its_own(dataset):
    table = table_of(dataset, "cross-view/train", order="random", count=3 * TRAIN + 2, seed=1)
    asked = list(
        zip(table.with_format(None)["sample"], table.with_format(None)["epoch"], strict=True)
    )
    epochs = [[s for s, epoch in asked if epoch == k] for k in range(4)]
    assert [len(e) for e in epochs] == [TRAIN] * 3 + [2]
    assert all(set(e) == set(epochs[0]) and len(set(e)) == TRAIN for e in epochs[:3])
    assert epochs[0] != epochs[1] != epochs[2]
    shorter = table_of(dataset, "cross-view/train", order="random", count=TRAIN + 1, seed=1)
    assert list(shorter.with_format(None)["sample"]) == [s for s, _ in asked][: TRAIN + 1]


def test_easy_first(dataset):
    pairs = choose_pairs(dataset, "cross-view/train", "all")
    hardness = difficulties(dataset, "cross-view/train", pairs)
    for pair, value in zip(pairs, hardness, strict=True):
        plan = dataset.sample(pair.sample).plan
        seen = sum(o.visible(dataset.world) for o in plan.initial)
        assert value == 100 * len(plan.transformations) + seen + (pair.final != "center") / 2
    order = epoch_order(pairs, "easy-first", 0, 0, hardness)
    assert [hardness[k] for k in order] == sorted(hardness)
    assert sorted(order) == list(range(len(pairs)))


def test_a_split_may_say_how_hard_its_pairs_are(copy):
    pairs = copy.split("cross-view/train")
    given = {pair: 1 - k / 10 for k, pair in enumerate(pairs)}
    copy.write_split("own/rated", pairs, given)
    assert difficulties(copy, "own/rated", pairs) == list(given.values())


def test_pairs_of_one_sample_can_stay_together(dataset):
    pairs = choose_pairs(dataset, "cross-view/train", "all")
    order = epoch_order(pairs, "random", 0, 0, together=True)
    samples = [pairs[k].sample for k in order]
    assert all(len(set(samples[k : k + 3])) == 1 for k in range(0, len(samples), 3))
    assert samples != sorted(samples)


def test_the_plan_of_a_long_run_is_small(dataset):
    pairs = [Pair(f"{k:06d}", "center", "left") for k in range(20_000)]
    table = build_rows(RowReader(dataset, COMPACT), pairs, "random", 100_000)
    assert len(table) == 100_000
    assert table.data.nbytes < 40 * len(table)


def test_coordinates_are_of_the_picture_that_the_model_sees(dataset):
    pair = dataset.split("cross-view/train")[0]
    teach = TraceConfig(style="trace", boxes=True)

    def numbers(seen, **prompt):
        """Pixels in the question, and the corners of boxes in the reasoning."""
        reader = RowReader(dataset, PromptConfig(**prompt), teach, seen=seen)
        row = reader.row(pair)
        question = row["prompt"][-1]["content"][-1]["text"]
        thought = row["completion"][0]["content"][0]["text"]
        points = re.findall(r"at \((-?\d+), (-?\d+)\)", question)
        boxes = re.findall(r"\[(\d+), (\d+), (\d+), (\d+)\]", thought)
        report = check_trace(thought, reader.facts(pair))
        assert points and boxes and {s.overlap for s in report.statements if s.kind == "box"} == {1}
        return question, np.array(points, int), np.array(boxes, int)

    question, points, boxes = numbers(None)
    assert "from the top left of 64 x 48" in question
    wide, scaled_points, scaled_boxes = numbers((320, 24))
    assert "from the top left of 320 x 24" in wide
    assert np.abs(scaled_points - points * [5, 0.5]).max() <= 2.5 + 1
    assert np.abs(scaled_boxes - boxes * [5, 0.5, 5, 0.5]).max() <= 1
    assert numbers((320, 24), coordinates="image")[0] == question

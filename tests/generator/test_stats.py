"""`tvr stats`: counts that add up, what even means, and figures that can be looked at."""

import io
import json
from collections import Counter

import numpy as np
import PIL.Image
import pytest

from star_tvr.generator.stats import Distribution, Marginal, StatsAccumulator, figures, tables
from star_tvr.schemas.dataset import Dataset
from tests.generator.command import documents, refused, tvr


@pytest.fixture(scope="module")
def stats(star):
    dataset = Dataset.open(star)
    accumulator = StatsAccumulator(dataset)
    for sample in dataset.samples():
        accumulator.update(sample)
    return accumulator.compute()


@pytest.fixture(scope="module")
def moves(tiny):
    dataset = Dataset.open(tiny)
    accumulator = StatsAccumulator(dataset)
    for sample in dataset.samples():
        accumulator.update(sample)
    return accumulator.compute()


def marginal(stats, name):
    return next(m for m in stats.marginals if m.name == name)


def distribution(stats, name):
    return next(d for d in stats.distributions if d.name == name)


def test_counts_are_those_of_the_files(star, stats):
    found = documents(star)
    changes = [t for d in found for t in d["transformations"]]
    assert (stats.samples, stats.images, stats.transformations) == (8, 32, len(changes))

    def counts(name):
        return {k: n for k, n in marginal(stats, name).counts.items() if n}

    assert counts("attributes") == Counter(t["attribute"] for t in changes)
    assert counts("index") == Counter(str(t["object"]) for t in changes)
    assert counts("transformations") == Counter(str(len(d["transformations"])) for d in found)
    assert counts("objects") == Counter(str(len(d["states"]["initial"]["objects"])) for d in found)
    for attribute in counts("attributes"):
        values = Counter(t["value"] for t in changes if t["attribute"] == attribute)
        assert counts(attribute) == values


def test_distributions_are_those_of_the_files(star, stats):
    found = documents(star)
    pixels = [o["pixels"] for d in found for i in d["images"] for o in i["objects"]]
    groups = distribution(stats, "pixels").groups
    assert sum(len(groups[size]) for size in ("small", "medium", "large")) == len(pixels)
    visible = distribution(stats, "visibility").groups["all objects"]
    assert len(visible) == len(pixels)
    lengths = distribution(stats, "length").groups["characters"]
    assert sorted(lengths) == sorted(len(d["answer"]) for d in found)
    angles = distribution(stats, "angle").groups
    assert len(angles["same camera"]) == 8 and len(angles["other camera"]) == 16
    assert max(angles["same camera"]) == 0 and 25 < min(angles["other camera"])
    assert np.median(groups["large"]) > np.median(groups["small"])


def test_expected_shares_add_up(stats, moves):
    for found in (*stats.marginals, *moves.marginals):
        assert sum(found.expected.values()) == pytest.approx(1)
        assert list(found.expected) == list(found.counts)
        assert 0 <= found.imbalance <= 1


def test_even_for_an_index_follows_from_the_number_of_objects(star, stats):
    expected = dict.fromkeys("0123456789", 0.0)
    total = 0
    for document in documents(star):
        objects = len(document["states"]["initial"]["objects"])
        for _ in document["transformations"]:
            total += 1
            for k in range(objects):
                expected[str(k)] += 1 / objects
    for index, share in marginal(stats, "index").expected.items():
        assert share == pytest.approx(expected[index] / total)


def test_moves_are_counted_by_kind_and_value(tiny, moves):
    changes = [t for d in documents(tiny) for t in d["transformations"]]
    count = sum(t["attribute"] == "position" for t in changes)
    assert count and marginal(moves, "moves").total == count
    assert set(marginal(moves, "moves").counts) == {"inner", "out", "in"}
    assert marginal(moves, "position").total == count
    assert len(marginal(moves, "position").counts) == 16


def test_imbalance_by_hand():
    even = dict.fromkeys("abcd", 0.25)
    assert Marginal("", "", dict.fromkeys("abcd", 5), even).imbalance == 0
    assert Marginal("", "", {"a": 8, "b": 0, "c": 0, "d": 0}, even).imbalance == 0.75
    assert Marginal("", "", {"a": 2, "b": 2, "c": 1, "d": 3}, even).imbalance == 0.125


def test_percentiles_by_hand():
    found = Distribution("x", "x", "pixels", {"all": list(range(101))})
    assert found.percentiles("all") == [0, 5, 50, 95, 100]
    assert found.to_json()["groups"]["all"]["mean"] == 50


def test_figures(stats, moves):
    for found in (stats, moves):
        pictures = figures(found)
        assert set(pictures) == {m.name for m in found.marginals} | {
            d.name for d in found.distributions
        }
        for content in pictures.values():
            with PIL.Image.open(io.BytesIO(content)) as picture:
                colors = np.asarray(picture.convert("RGB")).reshape(-1, 3)
                assert picture.width > 300 and len(np.unique(colors, axis=0)) > 20
    assert len(tables(stats)) == 3


def test_command(star, tmp_path):
    done = tvr("stats", star, "--out", tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for words in ("8 samples, 32 images", "visible objects at the start", "angle between"):
        assert words in done.stdout
    assert "what trivial answers score" in done.stdout and "says nothing" in done.stdout
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"objects.png", "attributes.png", "pixels.png", "angle.png", "index.png"} <= names


def test_json(star):
    done = tvr("stats", star, "--json")
    document = json.loads(done.stdout)
    assert document["samples"] == 8
    assert document["marginals"]["transformations"]["expected"] == dict.fromkeys("1234", 0.25)
    trivial = document["trivial_answers"]
    assert trivial["silent"]["tacc"] == 0 and trivial["silent"]["ndiff"] == 1
    assert set(trivial) == {"silent", "most-frequent", "everything"}


def test_what_is_refused(star, tmp_path):
    assert "not a data set" in refused("stats", tmp_path, status=1)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused("stats", star, "--out", tmp_path / "file", status=1)
    (tmp_path / "dataset.json").write_text((star / "dataset.json").read_text())
    assert "there are no samples in it" in refused("stats", tmp_path, status=1)

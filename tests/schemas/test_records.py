"""Records keep what they say on the way to disk and back."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.checks import check
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import dumps
from star_tvr.schemas.records import Pair, Sample, plan_from_json, plan_to_json

PRESETS = ("star", "trance", "random-view")
SAMPLERS = {p: Sampler.from_config(load_config(p)) for p in PRESETS}


@settings(max_examples=20)
@given(st.sampled_from(PRESETS), st.integers(0, 100))
def test_samples_come_back_as_they_were(make_sample, preset, index):
    sample, world = make_sample(preset, index)
    text = dumps(sample.to_json(world))
    document = json.loads(text)
    check(document, "sample", "test")
    again = Sample.from_json(document)
    assert again == sample
    assert dumps(again.to_json(world)) == text


@settings(max_examples=30)
@given(st.sampled_from(PRESETS), st.integers(0, 10**6))
def test_plans_come_back_as_they_were(preset, index):
    plan, world = SAMPLERS[preset].plan(index), SAMPLERS[preset].world
    assert plan_from_json(json.loads(dumps(plan_to_json(plan, world, 320, 240)))) == plan


def test_keys_are_those_of_the_contract(document):
    assert list(document) == [
        *("schema_version", "id", "seed", "preset", "cameras", "lights", "states"),
        *("transformations", "answer", "images", "render"),
    ]
    assert list(document["states"]["initial"]["objects"][0]) == [
        *("index", "shape", "size", "color", "material", "position", "rotation", "visible"),
    ]
    assert list(document["transformations"][0]) == ["object", "attribute", "before", "value"]
    image = document["images"][0]
    assert set(image) >= {"state", "camera", "path", "mask", "width", "height", "objects"}
    assert set(image["relations"]) == {"left", "right", "front", "behind"}


def test_images_are_found_by_name(make_sample):
    sample, _ = make_sample("star", 0)
    assert sample.image("final", "left").path == "final-left.png"
    with pytest.raises(KeyError, match="initial-left"):
        sample.image("initial", "left")


def test_pairs_of_a_sample(make_sample):
    sample, _ = make_sample("star", 2)
    assert sorted(tuple(pair.to_json().values()) for pair in sample.pairs()) == [
        ("000002", "center", final) for final in ("center", "left", "right")
    ]


def test_a_pair_comes_back_as_it_was():
    pair = Pair("000017", "center", "left")
    assert pair.to_json() == {"sample": "000017", "initial": "center", "final": "left"}
    assert Pair(**pair.to_json()) == pair

"""Triplets: their text form and their effect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.transformations import (
    Transformation,
    TripletError,
    answer_text,
    apply,
    move,
    parse_transformation,
    replay,
)
from star_tvr.schemas.config import load_config

TRANCE = Sampler.from_config(load_config("trance"))
WORLD = TRANCE.world
triplets = st.sampled_from(["color", "shape", "size", "material", "position"]).flatmap(
    lambda a: st.builds(
        Transformation, st.integers(0, 300), st.just(a), st.sampled_from(WORLD.values(a))
    )
)


@given(triplets)
def test_text_round_trip(triplet):
    assert parse_transformation(str(triplet)) == triplet


@given(st.lists(triplets, min_size=1, max_size=5))
def test_answers_round_trip(many):
    assert [parse_transformation(t) for t in answer_text(many).split(", ")] == many


def test_the_answer_of_the_contract():
    changes = [Transformation(2, "color", "cyan"), Transformation(0, "size", "small")]
    assert answer_text(changes) == "2.color.cyan, 0.size.small"


@pytest.mark.parametrize(
    "text",
    ["", "2.color", "color.cyan", "2.colour.cyan", "-1.color.cyan", "2.color.cyan.", "2 color cyan"]
    + ["2.color.", "a.color.red", "2.color.red, 3.color.red", "².color.red", "2.color.cyan\n"],
)
def test_other_texts_are_refused(text):
    with pytest.raises(TripletError):
        parse_transformation(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("front.1", (1.5, 0)),
        ("behind.2", (-3, 0)),
        ("left.1", (0, -1.5)),
        ("right.2", (0, 3)),
        ("front-left.2", (3, -3)),
        ("behind-right.1", (-1.5, 1.5)),
    ],
)
def test_moves(value, expected):
    assert move(value, WORLD) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["up.1", "front.3", "front", "front.1.1", ""])
def test_moves_that_do_not_exist(value):
    with pytest.raises(TripletError):
        move(value, WORLD)


def test_sixteen_moves():
    assert len(set(WORLD.values("position"))) == 16


@given(st.integers(0, 60))
def test_one_attribute_of_one_object_changes(index):
    plan = TRANCE.plan(index)
    states = replay(plan.initial, plan.transformations, WORLD)
    assert states[0] == plan.initial and states[-1] == plan.final
    for t, before, after in zip(plan.transformations, states, states[1:], strict=False):
        assert [a.index for a, b in zip(before, after, strict=True) if a != b] == [t.object]
        old, new = before[t.object].to_json(WORLD), after[t.object].to_json(WORLD)
        changed = {k for k in old if old[k] != new[k]}
        follows = {"position": {"visible"}, "size": {"position"}, "shape": {"position"}}
        assert t.attribute in changed
        assert changed <= {t.attribute} | follows.get(t.attribute, set())


@pytest.mark.parametrize("text", ["99.color.red", "0.color.orange", "0.shape.cone"])
def test_what_does_not_exist_cannot_be_applied(text):
    with pytest.raises(TripletError):
        apply(TRANCE.plan(0).initial, parse_transformation(text), WORLD)

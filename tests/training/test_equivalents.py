"""Answers that lead to the same pictures are equally right: for rewards, metrics and labels."""

import json
from itertools import product

import pytest

from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.transformations import Transformation, replay, same_place, with_equivalents
from star_tvr.schemas.config import load_config
from star_tvr.schemas.records import Pair, plan_to_json
from star_tvr.training.answers import compose, parse_truth, truth_text
from star_tvr.training.metrics import item_of, score_item
from star_tvr.training.rewards import PRESETS, score

SAMPLER = Sampler.from_config(load_config("trance"))
WORLD = SAMPLER.world
PLANS = [SAMPLER.plan(i) for i in range(60)]


def told(plan):
    return with_equivalents(plan.initial, plan.transformations, WORLD)


LEAVING = [plan for plan in PLANS if any(t.equivalents for t in told(plan))]


def test_moves_out_of_the_picture_and_no_others_have_equivalents():
    assert len(LEAVING) > 5
    for plan in PLANS:
        for t in told(plan):
            out = t.attribute == "position" and not plan.final[t.object].visible(WORLD)
            assert bool(t.equivalents) <= out


@pytest.mark.parametrize("number", range(len(LEAVING)))
def test_an_equivalent_leads_to_the_same_pictures_and_nothing_else_does(number):
    plan = LEAVING[number]
    for k, t in enumerate(told(plan)):
        if t.attribute != "position":
            continue
        for value in WORLD.values("position"):
            other = list(plan.transformations)
            other[k] = Transformation(t.object, t.attribute, value)
            end = replay(plan.initial, other, WORLD)[-1]
            same = all(same_place(a, b, WORLD) for a, b in zip(end, plan.final, strict=True))
            assert same == (value in (t.value, *t.equivalents))


@pytest.mark.parametrize("preset", PRESETS)
def test_whatever_tacc_calls_right_gets_the_full_reward(preset):
    """Every choice among the values of a move, for every sample: full, or not right."""
    for plan in LEAVING[:6]:
        truth = told(plan)
        camera = next(iter(plan.cameras))
        full = score(compose(truth), truth, preset).total
        choices = [
            WORLD.values("position") if t.attribute == "position" else (t.value,) for t in truth
        ]
        for values in list(product(*choices))[:200]:
            said = [
                Transformation(t.object, t.attribute, v) for t, v in zip(truth, values, strict=True)
            ]
            completion = compose(reversed(said))
            pair = Pair(plan.id, camera, camera)
            result = score_item(item_of(plan, pair, WORLD, completion))
            reward = score(completion, truth_text(truth), preset).total
            assert (reward == pytest.approx(full)) == result.right


def test_naming_two_equivalents_is_one_answer_too_many():
    truth = "3.position.left.2|left.1"
    both = "<think></think><answer>3.position.left.2, 3.position.left.1</answer>"
    assert score(both, truth).accuracy == 5 - 1
    assert score("<think></think><answer>3.position.left.1</answer>", truth).accuracy == 5
    assert score("<think></think><answer>3.position.right.1</answer>", truth).accuracy == 1.5


def test_what_was_said_is_shown_as_it_was_said():
    found = score("<answer>3.position.left.1</answer>", "3.position.left.2|left.1")
    assert "3.position.left.1: exact of 3.position.left.2" in found.explain()


def test_the_truth_survives_its_text_and_is_stored():
    for plan in LEAVING:
        truth = told(plan)
        read = parse_truth(truth_text(truth))
        assert [t.equivalents for t in read] == [t.equivalents for t in truth]
        stored = plan_to_json(plan, WORLD, 320, 240)["transformations"]
        assert [tuple(t.get("equivalents", ())) for t in json.loads(json.dumps(stored))] == [
            t.equivalents for t in truth
        ]


def test_an_object_that_moves_twice_has_none():
    (plan, *_) = LEAVING
    t = next(t for t in plan.transformations if t.attribute == "position")
    twice = (t, Transformation(t.object, "position", t.value))
    assert all(not found.equivalents for found in with_equivalents(plan.initial, twice, WORLD))

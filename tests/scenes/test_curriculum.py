"""Mixtures of scenes: weights ask more about some, whatever else they are, and always the same."""

from collections import Counter

import pytest

from star_tvr.scenes.curriculum import UNIFORM, choose_plan, level_order, question_cell
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config

VIEWS = [("center", "left")]
SAMPLES = 60


@pytest.fixture(scope="module")
def sampler():
    return Sampler.from_config(load_config("star"))


def mixture(sampler, weights, factor):
    """Shares of the values of a factor among the first samples."""
    found = Counter()
    for index in range(SAMPLES):
        plan = choose_plan(sampler, index, 0, weights, VIEWS)
        assert plan.id == f"{index:06d}"
        cell = question_cell(plan, VIEWS[0], sampler.world, sampler.balance)
        found.update(cell[factor])
    return {value: count / SAMPLES for value, count in found.items()}


@pytest.mark.parametrize(
    ("factor", "weights", "value", "least"),
    [
        ("changes", {"4": 5.0, "1": 0.2}, "4", 0.45),  # a quarter by chance
        ("objects", {"2": 9.0}, "2", 0.25),  # a tenth
        ("attribute", {"size": 9.0}, "size", 0.6),
        ("size", {"over 12": 10.0}, "over 12", 0.45),
        ("level", {str(k): float(k == 3) for k in range(40)}, "3", 0.5),  # one of forty
    ],
)
def test_weights_change_the_mixture_and_leave_some_to_chance(
    sampler, factor, weights, value, least
):
    shares = mixture(sampler, {factor: weights}, factor)
    assert shares[value] > least
    assert len(shares) > 1 and sum(shares.values()) - shares[value] >= 0.3 * UNIFORM


def test_a_choice_can_be_made_again_and_passed_over(sampler):
    weights = {"changes": {"4": 5.0}}
    first = choose_plan(sampler, 7, 0, weights, VIEWS)
    again = Sampler.from_config(load_config("star"))
    assert choose_plan(again, 7, 0, weights, VIEWS) == first
    assert sampler.plan(7, first.draw) == first
    assert choose_plan(sampler, 7, 1, weights, VIEWS).initial != first.initial


def test_levels_go_from_few_changes_and_objects_to_many(sampler):
    levels = level_order(sampler.balance)
    assert levels[0] == (1, 1) and levels[-1] == (4, 10) and len(levels) == 40

"""What trivial answers score, computed by hand and as anybody's predictions."""

from dataclasses import replace

import pytest

from star_tvr.scenes.transformations import parse_transformation
from star_tvr.training.baselines import baselines, most_frequent, table


@pytest.fixture(scope="module")
def plans(dataset):
    return [sample.plan for sample in dataset.samples()]


@pytest.fixture(scope="module")
def found(dataset, plans):
    attributes = dataset.config.transformations.attributes
    return {b.name: b for b in baselines(plans, dataset.world, attributes)}


def test_silence(found, plans):
    silent = found["silent"]
    assert {silent.metrics[k] for k in ("tacc", "object", "pair", "color", "acc")} == {0}
    assert silent.metrics["ndiff"] == 1
    changes = [len(plan.transformations) for plan in plans]
    assert silent.metrics["diff"] == sum(changes) / len(plans)
    # The form pays 1, and every true transformation that is missing costs 1.
    assert silent.reward == pytest.approx(sum(1 - n for n in changes) / len(plans))


def test_everything(found, dataset, plans):
    everything = found["everything"]
    assert everything.metrics["tacc"] == everything.metrics["pair"] == 0
    assert all(everything.metrics[k] == 1 for k in ("color", "size") if k in everything.metrics)
    values = sum(len(dataset.world.values(a)) for a in ("color", "shape", "size", "material"))
    rewards = []
    for plan in plans:
        n = len(plan.transformations)
        rewards.append(1 + 5 * n - (values * len(plan.initial) - n))
    assert everything.reward == pytest.approx(sum(rewards) / len(plans))


def test_most_frequent(found, plans):
    usual = most_frequent(plans)
    same = [sorted(plan.transformations) == sorted(usual) for plan in plans]
    assert sum(same) >= 1
    assert found["most-frequent"].metrics["tacc"] == sum(same) / len(plans)
    assert all(str(t) in found["most-frequent"].title for t in usual)


def test_most_frequent_in_any_order(plans):
    first, second = map(parse_transformation, ("0.color.red", "1.size.small"))

    answers = [(second, first), (second,), (first, second)]
    made = [replace(plans[0], transformations=answer) for answer in answers]
    assert most_frequent(made) == (first, second)
    assert most_frequent([]) == ()


def test_table(found):
    assert table(list(found.values())).row_count == 3

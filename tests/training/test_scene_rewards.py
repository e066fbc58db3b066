"""The further rewards: right reasoning earns the most, and no shortcut does."""

import pytest

from star_tvr.training.answers import compose
from star_tvr.training.config import ExtraRewards, PromptConfig, TraceConfig
from star_tvr.training.pairs import choose_pairs
from star_tvr.training.rows import RowReader
from star_tvr.training.scene_rewards import (
    agreement,
    extra_rewards,
    grounding_score,
    reference_score,
)
from star_tvr.training.trace_checker import check_trace
from star_tvr.training.traces import write_trace

FULL = TraceConfig(style="trace", boxes=True)


@pytest.fixture(scope="module")
def reader(dataset):
    return RowReader(dataset, PromptConfig(style="compact", location="cell"))


@pytest.fixture(scope="module")
def scenes(reader, dataset):
    """Facts of pairs with an unchanged object, and a true reasoning about each."""
    every = [reader.facts(p) for p in choose_pairs(dataset, "cross-view/train", "all")]
    chosen = [f for f in every if f.anchors and len(f.pictures[1].seen) > 1]
    assert len(chosen) > 5
    return [(facts, write_trace(facts, FULL, k)) for k, facts in enumerate(chosen)]


def test_a_true_reasoning_earns_everything(scenes):
    for facts, text in scenes:
        report = check_trace(text, facts)
        assert reference_score(report, facts) == 1.0
        assert grounding_score(report, facts) == 1.0


def test_silence_and_half_the_work_earn_less(scenes):
    for facts, text in scenes:
        empty = check_trace("", facts)
        assert reference_score(empty, facts) == 0.0
        assert grounding_score(empty, facts) == 0.0
        first = check_trace(text.splitlines()[0], facts)
        assert 0 < reference_score(first, facts) <= 0.5


def test_guessing_relations_costs_precision(scenes):
    for facts, text in scenes:
        names = sorted(facts.pictures[0].seen)
        guesses = " ".join(
            f"[{a}, {r}, {b}]"
            for a in names
            for b in names
            for r in ("left", "right", "front", "behind")
            if a != b
        )
        assert reference_score(check_trace(guesses, facts), facts) <= 0.5
        more = check_trace(f"{text}\nFirst picture: {guesses}", facts)
        assert reference_score(more, facts) < 0.9


def test_repeating_a_truth_earns_nothing_more(scenes):
    for facts, text in scenes:
        lines = text.splitlines()
        once = check_trace(lines[0], facts)
        often = check_trace("\n".join(lines[:1] * 5), facts)
        assert reference_score(often, facts) == reference_score(once, facts)


def test_a_wrong_box_and_a_missing_one_count_as_nothing(scenes):
    facts, text = scenes[0]
    lines = text.splitlines()
    half = grounding_score(check_trace(lines[0], facts), facts)
    assert 0 < half < 1
    spoiled = text.replace(" at [", " at [9")
    assert grounding_score(check_trace(spoiled, facts), facts) < 0.5


def test_agreement():
    a, b = frozenset("xy"), frozenset("x")
    assert agreement(a, [a]) == 1.0
    assert agreement(a, [b, a]) == 0.75
    assert agreement(frozenset(), [frozenset(), frozenset()]) == 0.0
    assert agreement(frozenset(), [a]) == 0.0


def columns(pairs):
    names = ("sample", "initial", "final")
    return {n: [getattr(p, n) for p in pairs] for n in names} | {"epoch": [0] * len(pairs)}


def test_the_functions_for_trl(reader, dataset):
    assert extra_rewards(ExtraRewards(), reader.facts) == []
    functions = extra_rewards(
        ExtraRewards(reference=2.0, consistency=0.5, grounding=1.0), reader.facts
    )
    names = [f.__name__ for f in functions]
    assert names == ["reference_reward", "consistency_reward", "grounding_reward"]
    pairs = choose_pairs(dataset, "cross-view/train", "all")[:4]  # three views, and a lone one
    changes = dataset.sample(pairs[0].sample).plan.transformations
    thoughts = [write_trace(reader.facts(p), FULL, 0) for p in pairs]
    completions = [compose(changes, thought) for thought in thoughts]
    completions[1] = compose(changes[:1])
    logged = {}
    reference = functions[0](completions, log_metric=logged.__setitem__, **columns(pairs))
    assert reference[1] == 0.0 and 0 < reference[0] <= 2.0
    assert logged["statements/false"] == 0 and logged["statements/true"] > 0
    part = 1 / len(changes)
    consistency = functions[1](completions, **columns(pairs))
    expected = [0.5 * (1 + part) / 2, 0.5 * part, 0.5 * (1 + part) / 2, None]
    assert consistency == [e if e is None else pytest.approx(e) for e in expected]
    grounding = functions[2](completions, **columns(pairs))
    assert grounding[1] == 0.0 and grounding[0] == 1.0

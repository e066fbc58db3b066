"""The reward: hand-computed cases, the properties it is built for, and what trainers call."""

import ast
import inspect
import math
import operator
from itertools import permutations
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.states import SceneObject
from star_tvr.scenes.transformations import Transformation, TripletError
from star_tvr.schemas.config import load_config
from star_tvr.training.answers import compose
from star_tvr.training.baselines import SILENCE, enumeration
from star_tvr.training.integrations.verl import compute_score
from star_tvr.training.rewards import (
    PRESETS,
    Reward,
    accuracy_reward,
    combined_reward,
    format_reward,
    resolve_reward,
    score,
)

CASES = yaml.safe_load(Path(__file__).with_name("reward_cases.yaml").read_text())
WORLD = load_config("star").world
ATTRIBUTES = ("color", "shape", "size", "material")

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def arithmetic(node):
    """The value of a sum written with + - * / and brackets."""
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](arithmetic(node.left), arithmetic(node.right))
    if isinstance(node, ast.UnaryOp):
        return -arithmetic(node.operand)
    return node.value


def case_id(case):
    what = case.get("answer", case.get("completion"))
    return f"{case.get('preset', 'star')}:{what!r} for {case['truth']}"


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_hand_computed(case):
    completion = case.get("completion", f"<think>Yes.</think><answer>{case.get('answer')}</answer>")
    options = {k: case[k] for k in ("preset", "matching", "weights") if k in case}
    result = score(completion, case["truth"], **options)
    terms, expected = case["sum"].split("=")
    assert arithmetic(ast.parse(terms.strip(), mode="eval").body) == float(expected)
    assert result.accuracy == float(expected)
    assert result.format == case.get("format", 1)
    assert result.total == result.format + result.accuracy


def test_there_are_enough_cases():
    assert len({case_id(c) + str(c.get("matching")) + str(c.get("weights")) for c in CASES}) >= 60


# Few objects and values, so that predictions collide with truths and with each other.
triplets = st.one_of(
    *(
        st.builds(Transformation, st.integers(0, 2), st.just(a), st.sampled_from(WORLD.values(a)))
        for a in ATTRIBUTES
    )
)
truths = st.lists(triplets, min_size=1, max_size=4, unique_by=lambda t: (t.object, t.attribute))
answers = st.lists(triplets | st.sampled_from(["a cube", "2.color", "7"]), max_size=6)


def accuracy(predictions, truth, **options):
    completion = f"<answer>{', '.join(map(str, predictions))}</answer>"
    return score(completion, truth, **options).accuracy


def same(predictions, truth):
    return sorted(map(str, predictions)) == sorted(map(str, truth))


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"no-wrong"}))
@given(truth=truths, answer=answers)
def test_the_truth_is_the_unique_best_answer(preset, truth, answer):
    best = accuracy(truth, truth, preset=preset)
    if same(answer, truth):
        assert accuracy(answer, truth, preset=preset) == best
    else:
        assert accuracy(answer, truth, preset=preset) < best


@given(truth=truths, answer=answers)
def test_without_the_wrong_penalty_the_truth_is_best_but_not_alone(truth, answer):
    best = accuracy(truth, truth, preset="no-wrong")
    assert accuracy(answer, truth, preset="no-wrong") <= best
    assert accuracy([*truth, "9.color.red"], truth, preset="no-wrong") == best


@pytest.mark.parametrize("preset", ["star", "no-object", "no-attribute", "no-missing", "count-gap"])
@given(truth=truths, extra=triplets)
def test_adding_to_the_right_answer_costs_one(preset, truth, extra):
    added = accuracy([*truth, extra], truth, preset=preset)
    assert added == accuracy(truth, truth, preset=preset) - 1


@pytest.mark.parametrize(
    ("preset", "long", "short"),
    [
        ("star", 1 / 6, 0),
        ("no-object", 1 / 6, 0),
        ("no-attribute", 1 / 6, 0),
        ("no-missing", 1 / 6, 1 / 6),
        ("no-wrong", 0, 0),
        ("count-gap", 1 / 5, 0),
        ("strict", 1 / 6, 0),
        ("bonus", 1 / 6, 0),
        ("even", 1 / 2, 1 / 2),
        ("even-bonus", 1 / 2, 1 / 2),
    ],
)
def test_from_which_chance_on_a_guess_pays(preset, long, short):
    true, other, wrong, worse = "0.color.red", "1.size.small", "2.color.red", "3.size.large"

    def break_even(answer, truth):
        silent, exact, miss = (
            accuracy([*answer, *more], truth, preset=preset) for more in ([], [true], [worse])
        )
        return max(0.0, (silent - miss) / (exact - miss))

    assert break_even([wrong], [true]) == pytest.approx(long)
    assert break_even([], [true, other]) == pytest.approx(short)
    last = {"even-bonus": 1 / 3}.get(preset, short)
    assert break_even([], [true]) == pytest.approx(last)


@given(truth=truths, data=st.data())
def test_dropping_from_the_right_answer_costs_six(truth, data):
    dropped = data.draw(st.integers(0, len(truth) - 1))
    left = truth[:dropped] + truth[dropped + 1 :]
    assert accuracy(left, truth) == accuracy(truth, truth) - 6


@given(truth=truths, answer=answers, extra=triplets)
def test_what_shares_nothing_costs_in_an_answer_that_is_long_enough(truth, answer, extra):
    assume(extra.object not in {t.object for t in truth})
    cost = accuracy(answer, truth) - accuracy([*answer, extra], truth)
    assert cost == (1 if len(answer) >= len(truth) else 0)


@pytest.mark.parametrize("matching", ["one-to-one", "independent"])
@pytest.mark.parametrize("preset", PRESETS)
@given(truth=truths, answer=answers, data=st.data())
def test_order_does_not_matter(preset, matching, truth, answer, data):
    options = {"preset": preset, "matching": matching}
    shuffled = data.draw(st.permutations(answer))
    other_truth = data.draw(st.permutations(truth))
    assert accuracy(answer, truth, **options) == accuracy(shuffled, other_truth, **options)


@pytest.mark.parametrize("objects", range(1, 11))
@pytest.mark.parametrize("count", range(1, 5))
def test_enumeration(objects, count):
    state = tuple(
        SceneObject(k, "cube", "small", "red", "metal", float(k), 0.0, 0.0) for k in range(objects)
    )
    changes = [("color", "cyan"), ("shape", "sphere"), ("size", "large"), ("material", "glass")]
    truth = [Transformation(k % objects, *changes[k]) for k in range(count)]
    everything = score(enumeration(state, WORLD, ATTRIBUTES), truth)
    assert everything.accuracy == 5 * count - (17 * objects - count)
    assert everything.accuracy < score(compose(truth), truth).accuracy
    below_silence = everything.accuracy < score(SILENCE, truth).accuracy
    assert below_silence == (objects >= 2 or count <= 2)


def brute_force(predictions, truth, weights):
    """The highest total over all ways to give every truth one prediction or none."""
    tiers = [[0.0] * len(truth) for _ in predictions]
    for i, p in enumerate(predictions):
        for j, t in enumerate(truth):
            if isinstance(p, str):
                continue
            agree = (p.object == t.object, p.attribute == t.attribute, p.value == t.value)
            if agree == (True, True, True):
                tiers[i][j] = weights.exact
            elif agree == (True, True, False):
                tiers[i][j] = weights.attribute
            elif agree[0]:
                tiers[i][j] = weights.object
            elif agree[1:] == (True, True):
                tiers[i][j] = weights.change
            elif agree[1]:
                tiers[i][j] = weights.kind
    places = [*range(len(predictions)), *[None] * len(truth)]
    best = -math.inf
    for chosen in set(permutations(places, len(truth))):
        paid = {i: tiers[i][j] for j, i in enumerate(chosen) if i is not None and tiers[i][j] > 0}
        total = math.fsum([*paid.values(), *[weights.wrong] * (len(predictions) - len(paid))])
        best = max(best, total)
    return best + weights.missing * max(0, len(truth) - len(predictions))


tier_weights = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 5.0])


@given(
    truth=st.lists(triplets, min_size=1, max_size=3, unique_by=lambda t: (t.object, t.attribute)),
    answer=st.lists(triplets | st.just("a cube"), max_size=4),
    tiers=st.tuples(*[tier_weights] * 5),
    penalties=st.tuples(*[st.sampled_from([0.0, -0.5, -1.0, -3.0])] * 2),
)
def test_the_assignment_is_the_best_of_all(truth, answer, tiers, penalties):
    names = ("exact", "attribute", "object", "change", "kind", "wrong", "missing")
    reward = Reward(**dict(zip(names, (*tiers, *penalties), strict=True)))
    assert accuracy(answer, truth, preset=reward) == brute_force(answer, truth, reward)


@given(truth=truths, answer=answers)
def test_the_matching_explains_the_reward(truth, answer):
    result = score(f"<answer>{', '.join(map(str, answer))}</answer>", truth)
    paid = [m.truth for m in result.matches if m.truth]
    assert len(paid) == len(set(paid))
    assert set(result.unmatched) == set(truth) - set(paid)
    missing = max(0, len(truth) - len(answer))
    assert result.accuracy == sum(m.points for m in result.matches) - missing
    assert len(result.explain().splitlines()) == len(answer) + len(result.unmatched) + 1


@given(st.text() | st.text("<>/thinkanswer0.,;color "))
def test_any_text_has_a_finite_reward(text):
    for preset in PRESETS:
        for matching in ("one-to-one", "independent"):
            assert math.isfinite(score(text, "2.color.cyan", preset, matching).total)


def test_no_truth_and_no_answer():
    for preset in PRESETS:
        assert score(SILENCE, "", preset).accuracy == PRESETS[preset].complete


def test_truth_as_text_list_or_transformations():
    completion = "<answer>2.color.cyan</answer>"
    expected = score(completion, "2.color.cyan, 0.size.small")
    assert score(completion, ["2.color.cyan", "0.size.small"]) == expected
    assert score(completion, expected.truth) == expected


def test_long_answers_are_scored():
    answer = ",".join(f"{k}.color.red" for k in range(20_000))
    assert score(f"<answer>{answer}</answer>", "3.color.red").accuracy == 5 - 19_999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "stars"}, "reward.preset: 'stars' is not one of star,"),
        ({"matching": "greedy"}, "reward.matching: 'greedy' is not one-to-one"),
        ({"weights": {"wrongs": -1}}, "reward.weights.wrongs: unknown key; did you mean wrong?"),
        ({"weights": {"wrong": 1}}, "reward.weights.wrong: 1 is greater than the maximum of 0"),
        ({"weights": {"exact": -5}}, "reward.weights.exact: -5 is less than the minimum of 0"),
        (
            {"weights": {"exact": math.nan}},
            "reward.weights.exact: nan: .* finite number",
        ),
        ({"weights": {"exact": "5"}}, "reward.weights.exact: '5' is not of type 'number'"),
        ({"weights": {"exact": True}}, "reward.weights.exact: True is not of type 'number'"),
        ({"weights": {"average": 1}}, "reward.weights.average: 1 is not of type 'boolean'"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        score(SILENCE, "2.color.cyan", **options)
    with pytest.raises(ConfigError, match=f"^{message}"):
        resolve_reward(**options)


def test_an_unknown_preset_shows_before_training():
    for function in (format_reward, accuracy_reward, combined_reward):
        with pytest.raises(ConfigError, match="^reward.preset: 'stars' is not one of star,"):
            function("stars")


def test_a_truth_that_is_no_answer_is_named():
    with pytest.raises(TripletError, match="^'acube' in the true answer is not a triplet"):
        score(SILENCE, "2.color.cyan, a cube")


RIGHT, WRONG = compose([Transformation(2, "color", "cyan")]), "<answer>7.size.small</answer>"


def test_trl_functions():
    messages = [[{"role": "assistant", "content": text}] for text in (RIGHT, WRONG, RIGHT)]
    columns = {"truth": ["2.color.cyan", "2.color.cyan", None], "prompts": [[]] * 3, "sample": "x"}
    assert format_reward()(messages, **columns) == [1, 0, 1]
    assert accuracy_reward()(messages, **columns) == [5, -1, None]
    assert combined_reward()(messages, **columns) == [6, -1, None]
    assert combined_reward(resolve_reward("binary"))(messages, **columns)[0] == 2
    names = [f().__name__ for f in (format_reward, accuracy_reward, combined_reward)]
    assert names == ["format_reward", "accuracy_reward", "combined_reward"]
    for function in (format_reward(), accuracy_reward(), combined_reward()):
        parameters = list(inspect.signature(function).parameters.values())
        assert parameters[0].name == "completions"
        assert parameters[-1].kind is inspect.Parameter.VAR_KEYWORD


def test_trl_lengths_must_agree():
    with pytest.raises(ValueError, match="shorter"):
        accuracy_reward()([RIGHT, RIGHT], truth=["2.color.cyan"])


def test_verl_function():
    parameters = list(inspect.signature(compute_score).parameters)
    assert parameters[:4] == ["data_source", "solution_str", "ground_truth", "extra_info"]
    result = compute_score(
        data_source="tvr", solution_str=RIGHT, ground_truth="2.color.cyan", extra_info={"index": 3}
    )
    assert result == {"score": 6, "format": 1, "accuracy": 5}
    binary = compute_score("tvr", RIGHT, "2.color.cyan", None, preset="binary", later_option=1)
    assert binary["score"] == 2

"""Plans against an independent re-implementation of the rules (`reference.py`).

`TVR_PLANS=10000 pytest tests/scenes/test_rules.py` replays so many plans of every preset.
"""

import json
import os
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from star_tvr.scenes.rules import violations
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.transformations import Transformation
from star_tvr.scenes.transformations import replay as final_states
from star_tvr.schemas.config import load_config
from star_tvr.schemas.records import plan_to_json
from tests.scenes import reference

PRESETS = ("star", "trance", "basic", "event", "view", "random-view")
PLANS = int(os.environ.get("TVR_PLANS", "40"))
CHUNK = 20


@cache
def sampler(preset: str) -> Sampler:
    return Sampler.from_config(load_config(preset))


def as_json(plan, world):
    """A plan as it would be read from disk."""
    return json.loads(json.dumps(plan_to_json(plan, world, 320, 240)))


@pytest.mark.parametrize("start", range(0, PLANS, CHUNK))
@pytest.mark.parametrize("preset", (*PRESETS, "orbit"))
def test_plans_keep_the_rules(preset, start):
    for index in range(start, min(start + CHUNK, PLANS)):
        sample = as_json(sampler(preset).plan(index), sampler(preset).world)
        states = reference.replay(sample)
        assert not reference.broken_rules(sample), sample["id"]
        check_states(sample, states)
        check_answer(sample, states)
        check_numbers(sample, sampler(preset).config)


def check_states(sample, states):
    for stored, replayed in zip(sample["states"]["final"]["objects"], states[-1], strict=True):
        assert stored["position"] == pytest.approx(replayed["position"], abs=2e-6)
        assert {**stored, "position": 0} == {**replayed, "position": 0}
    for number, o in enumerate(states[0]):
        assert o["index"] == number
        assert o["visible"] == reference.inside(o, reference.VISIBLE)
        cells = np.array(o["position"][:2]) / reference.GRID
        assert np.allclose(cells, cells.round(), atol=1e-4)
        for attribute, words in reference.WORDS.items():
            assert o[attribute] in words


def check_answer(sample, states):
    changes = sample["transformations"]
    assert sample["answer"] == ", ".join(
        f"{t['object']}.{t['attribute']}.{t['value']}" for t in changes
    )
    for change, before in zip(changes, states, strict=False):
        was = before[change["object"]][change["attribute"]]
        assert change["before"] == (
            pytest.approx(was, abs=2e-6) if change["attribute"] == "position" else was
        )
        assert change["before"] != change["value"]


def check_numbers(sample, config):
    objects = sample["states"]["initial"]["objects"]
    visible = sum(o["visible"] for o in objects)
    star = config.objects.total is None
    assert 1 <= visible <= 10
    assert len(objects) == (visible if star else 10)
    low, high = config.transformations.count
    assert low <= len(sample["transformations"]) <= high
    for name, camera in sample["cameras"].items():
        named = config.cameras.named.get(name)
        if named:
            assert np.abs(np.subtract(camera["position"], named.position)).max() <= 0.5 + 1e-6
    for name, light in sample["lights"].items():
        lamp = config.lights.lamps[name]
        assert np.abs(np.subtract(light["position"], lamp.position)).max() <= 1 + 1e-6


VIEWS = {
    "star": ["initial-center", "final-left", "final-center", "final-right"],
    "trance": ["initial-center", "final-left", "final-center", "final-right"],
    "basic": ["initial-center", "final-center"],
    "event": ["initial-center", "final-center"],
    "view": ["initial-center", "final-left", "final-right"],
    "random-view": ["initial-view-0", "final-view-0", "final-view-1"],
}


@pytest.mark.parametrize("preset", PRESETS)
def test_views_of_a_preset(preset):
    plan = sampler(preset).plan(3)
    assert sorted(f"{s}-{c}" for s, c in plan.views) == sorted(VIEWS[preset])


def test_star_changes_no_positions_and_trance_all_attributes():
    found = {
        preset: {t.attribute for i in range(60) for t in sampler(preset).plan(i).transformations}
        for preset in ("star", "trance")
    }
    assert found["star"] == {"color", "shape", "size", "material"}
    assert found["trance"] == found["star"] | {"position"}


def test_trance_moves_in_out_and_within():
    kinds = set()
    for index in range(60):
        plan = sampler("trance").plan(index)
        for t in plan.transformations:
            if t.attribute == "position":
                ends = (plan.initial[t.object], plan.final[t.object])
                kinds.add(tuple(o.visible(sampler("trance").world) for o in ends))
    assert kinds == {(True, True), (True, False), (False, True)}


VALUES = {a: sorted(words) for a, words in reference.WORDS.items()}
VALUES["position"] = [f"{d}.{n}" for d in ("front", "left", "behind-right") for n in (1, 2)]


@settings(max_examples=40)
@given(data=st.data())
def test_rules_agree_about_damaged_plans(data):
    preset = data.draw(st.sampled_from(["star", "trance"]))
    world = sampler(preset).world
    plan = sampler(preset).plan(data.draw(st.integers(0, 30)))
    objects, changes = list(plan.initial), list(plan.transformations)
    k = data.draw(st.integers(0, len(objects) - 1))
    damage = data.draw(st.sampled_from(["place", "size", "value", "more"]))
    if damage == "place":
        x, y = (0.15 * data.draw(st.integers(-45, 45)) for _ in "xy")
        objects[k] = replace(objects[k], x=round(x, 6), y=round(y, 6))
    elif damage == "size":
        objects[k] = replace(objects[k], size=data.draw(st.sampled_from(VALUES["size"])))
    else:
        attribute = data.draw(st.sampled_from(sorted(VALUES)))
        change = Transformation(k, attribute, data.draw(st.sampled_from(VALUES[attribute])))
        changes = [*(changes if damage == "more" else changes[1:]), change]
    initial = tuple(objects)
    final = final_states(initial, changes, world)[-1]
    plan = replace(plan, initial=initial, final=final, transformations=tuple(changes))
    sample = as_json(plan, world)
    pixels = list(reference.shown(sample, reference.replay(sample)))
    assume(not any(abs(p - 150) < 15 for p in pixels))
    expected = reference.broken_rules(sample)
    found = {v.rule for v in violations(plan, world, 150, 320, 240)}
    assert bool(found) == bool(expected), (sample["answer"], found, expected)


def test_what_comes_in_may_not_change_in_other_ways():
    """Nobody has seen what it was before."""
    world = sampler("trance").world
    plan, entering = next(
        (plan, t.object)
        for plan in map(sampler("trance").plan, range(100))
        for t in plan.transformations
        if not plan.initial[t.object].visible(world)
    )
    color = "red" if plan.initial[entering].color != "red" else "blue"
    changes = (*plan.transformations, Transformation(entering, "color", color))
    final = final_states(plan.initial, changes, world)[-1]
    plan = replace(plan, transformations=changes, final=final)
    assert reference.broken_rules(as_json(plan, world)) == {"unseen change"}
    assert list(violations(plan, world, 150, 320, 240))

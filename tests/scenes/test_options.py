"""What a configuration can ask of the planner beyond the presets."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from star_tvr.scenes.cameras import angle_between
from star_tvr.scenes.errors import ConfigError, PlanError
from star_tvr.scenes.rules import violations
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config

COGENT = (
    "world.constraints=[{if: {shape: [cube]}, then: {color: [gray, blue, brown, yellow]}},"
    " {if: {shape: [cylinder]}, then: {color: [red, green, purple, cyan]}}]"
)
CUBES, CYLINDERS = {"gray", "blue", "brown", "yellow"}, {"red", "green", "purple", "cyan"}


def planned(preset, *overrides, count=60):
    sampler = Sampler.from_config(load_config(preset, overrides))
    return sampler, [sampler.plan(i) for i in range(count)]


def test_constraints_hold_in_every_state():
    sampler, plans = planned("star", COGENT)
    for plan in plans:
        for state in plan.states(sampler.world):
            for o in state:
                assert o.shape != "cube" or o.color in CUBES
                assert o.shape != "cylinder" or o.color in CYLINDERS
        assert not list(violations(plan, sampler.world, 150, 320, 240))


def test_constraints_leave_no_value_out():
    sampler, _ = planned("star", COGENT, count=0)
    tasks = [sampler.balance.task(i) for i in range(1000)]
    colors = Counter(t.value for k in tasks for t in k.transformations if t.attribute == "color")
    assert len(colors) == 8
    assert max(colors.values()) < 1.25 * min(colors.values())


def test_a_broken_constraint_is_found():
    sampler, plans = planned("star", count=20)
    strict = Sampler.from_config(load_config("star", [COGENT])).world
    found = {v.rule for plan in plans for v in violations(plan, strict, 150, 320, 240)}
    assert found == {"constraints"}


def test_constraints_that_leave_nothing_are_refused():
    sampler = Sampler.from_config(
        load_config(
            "star",
            [
                "world.constraints=[{if: {size: [small, medium, large]}, then: {color: [red]}}]",
                "transformations.attributes=[color]",
            ],
        )
    )
    with pytest.raises(ConfigError, match=r"world\.constraints: no color"):
        sampler.plan(0)


def test_fixed_objects_are_there_and_never_change():
    sampler, plans = planned(
        "star",
        "objects.fixed=[{shape: sphere, color: red}, {size: large}]",
        "objects.visible=[3, 6]",
    )
    for plan in plans:
        first, second = plan.initial[-2:]
        assert (first.shape, first.color, second.size) == ("sphere", "red", "large")
        assert plan.final[-2:] == plan.initial[-2:]


@pytest.mark.parametrize("fixed", ["[{shape: pyramid}]", "[{color: 3}]", "[{weight: heavy}]"])
def test_fixed_objects_are_of_this_world(fixed):
    with pytest.raises(ConfigError, match=r"objects\.fixed"):
        load_config("star", [f"objects.fixed={fixed}", "objects.visible=[2, 6]"])


def test_distractors_turn_what_did_not_change():
    sampler, plans = planned("star", "transformations.distractors=[rotation]", count=20)
    for plan in plans:
        changed = {t.object for t in plan.transformations}
        for before, after in zip(plan.initial, plan.final, strict=True):
            assert (before.rotation == after.rotation) == (before.index in changed)
        assert not list(violations(plan, sampler.world, 150, 320, 240))


def test_an_orbit_is_even():
    _, plans = planned("orbit", "cameras.orbit=6", "objects.visible=[1, 3]", count=8)
    for plan in plans:
        finals = [plan.cameras[camera] for state, camera in plan.views if state == "final"]
        assert len(finals) == 6
        turns = np.diff(sorted(c.azimuth % 360 for c in finals))
        assert np.allclose(turns, 60, atol=1e-3)
        assert len({round(c.elevation, 3) for c in finals}) == 1


def test_intermediate_states_are_rendered_from_the_final_cameras():
    sampler, plans = planned("star", "intermediate=true", count=12)
    for plan in plans:
        steps = range(1, len(plan.transformations))
        expected = {(f"step-{k}", c) for k in steps for c in ("left", "center", "right")}
        assert {v for v in plan.views if v[0].startswith("step")} == expected
        states = plan.states(sampler.world)
        for k in steps:
            assert plan.state(f"step-{k}", sampler.world) == states[k]
        assert all(a != b for a, b in pairwise(states))


@pytest.mark.parametrize(("low", "high"), [(0, 20), (60, 90), (150, 180)])
def test_view_angles_stay_in_their_range(low, high):
    _, plans = planned(
        "random-view",
        f"cameras.shell.angle=[{low}, {high}]",
        "cameras.shell.elevation=[3, 12]",
        count=12,
    )
    for plan in plans:
        angle = angle_between(plan.cameras["view-0"], plan.cameras["view-1"])
        assert low - 1e-6 <= angle <= high + 1e-6


def test_several_initial_and_random_cameras():
    _, plans = planned(
        "star", "cameras.initial=[center, random]", "cameras.final=[same, random, random]", count=4
    )
    for plan in plans:
        assert [v for v in plan.views if v[0] == "initial"] == [
            ("initial", "center"),
            ("initial", "view-0"),
        ]
        assert [c for s, c in plan.views if s == "final"] == [
            "center",
            "view-0",
            "view-1",
            "view-2",
        ]


def test_an_unlucky_sample_fails_with_the_rule_and_the_cure():
    sampler = Sampler.from_config(load_config("star", ["visibility.min_pixels=60000", "tries=5"]))
    with pytest.raises(PlanError, match=r"000000.*5 tries.*observable 5 times.*min_pixels"):
        sampler.plan(0)
    sampler = Sampler.from_config(
        load_config("random-view", ["cameras.shell.angle=[179.9, 180]", "tries=3"])
    )
    with pytest.raises(PlanError, match=r"camera-angle 3 times.*shell\.angle"):
        sampler.plan(0)

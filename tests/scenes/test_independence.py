"""What a sample is about gives nothing else away: not its other changes, not another data set."""

from collections import Counter, defaultdict
from functools import cache
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency

from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.rules import hidden_in_some_form, violations
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.schemas.config import load_config, preset_names


@cache
def tasks(preset, seed, number):
    balance = Sampler.from_config(load_config(preset, [f"seed={seed}"])).balance
    return [balance.task(i) for i in range(number)]


def too_uneven(counts, cells):
    """Whether equally likely cells are less even than chance makes them once in 10,000 times."""
    fair = sum(counts.values()) / len(cells)
    assert set(counts) <= set(cells)
    return chi2.sf(sum((counts[c] - fair) ** 2 / fair for c in cells), len(cells) - 1) < 1e-4


def lookup(train, test, with_count):
    """How many of `test` a table gets right that knows the first pair, and how many there are."""
    table = defaultdict(Counter)

    def question(task):
        first = task.transformations[0]
        count = len(task.transformations) if with_count else None
        return task.visible, count, first.object, first.attribute

    def rest(task):
        return tuple(sorted((t.object, t.attribute) for t in task.transformations[1:]))

    for task in train:
        table[question(task)][rest(task)] += 1
    right = [
        table[question(t)].most_common(1)[0][0] == rest(t) for t in test if question(t) in table
    ]
    return sum(right), len(test)


@pytest.mark.parametrize("with_count", [True, False])
@pytest.mark.parametrize(("number", "seeds"), [(300, 16), (1000, 5), (10_000, 2)])
@pytest.mark.parametrize("preset", ["star", "trance", "bench"])
def test_the_first_change_tells_the_others_no_better_than_in_another_data_set(
    preset, number, seeds, with_count
):
    own = other = 0
    for seed in range(seeds):
        several = [
            [t for t in tasks(preset, s, number) if len(t.transformations) > 1]
            for s in (seed, (seed + 1) % seeds)
        ]
        train = several[0][: 7 * len(several[0]) // 10]
        for found, data in enumerate(several):
            right, asked = lookup(train, data[len(train) :], with_count)
            own, other = (own + right, other) if found == 0 else (own, other + right)
    assert own <= 1.25 * other + 2 * other**0.5  # the latter is what chance may do


@pytest.mark.parametrize("visible", [1, 2, 3])
def test_any_two_distinct_pairs_are_equally_likely(visible):
    counts = Counter()
    for task in tasks("star", 0, 10_000):
        if task.visible == visible:
            chosen = [(t.object, t.attribute) for t in task.transformations]
            counts.update(combinations(chosen, 2))
    pairs = [(o, a) for o in range(visible) for a in ("color", "shape", "size", "material")]
    assert not too_uneven(counts, list(permutations(pairs, 2)))


def test_numbers_objects_attributes_and_values_are_independent():
    """Every joint of two or three of them, and of two changes of a sample, is even."""
    world = load_config("star").world
    joints = defaultdict(Counter)
    for task in tasks("star", 1, 10_000):
        listed = task.transformations
        for t in listed:
            joints["attribute", "count"][t.attribute, len(listed)] += 1
            joints["attribute", "visible"][t.attribute, task.visible] += 1
            joints[task.visible, "object", t.attribute][t.object, t.value] += 1
        for a, b in combinations(listed, 2):
            if a.object != b.object and a.attribute == b.attribute == "color":
                joints["two colors"][a.value, b.value] += 1
    colors = world.values("color")
    assert not too_uneven(joints.pop("two colors"), [(a, b) for a in colors for b in colors])
    for key, counts in joints.items():
        if key[0] == "attribute":
            shares = defaultdict(Counter)
            for (attribute, number), count in counts.items():
                shares[number][attribute] += count
            assert not any(too_uneven(c, list(c)) for c in shares.values()), key
        else:
            visible, _, attribute = key
            cells = [(o, v) for o in range(visible) for v in world.values(attribute)]
            assert not too_uneven(counts, cells), key


@pytest.mark.parametrize("preset", ["star", "random-view"])
def test_where_cameras_and_lamps_stand_tells_nothing_of_the_changes(preset):
    """Thirds of each coordinate, and of two of them, against what changes, also two at a time."""
    sampler = Sampler.from_config(load_config(preset, ["seed=5"]))
    plans = [sampler.plan(i) for i in range(600)]
    places = {
        "azimuth": [next(iter(p.cameras.values())).azimuth for p in plans],
        "elevation": [next(iter(p.cameras.values())).elevation for p in plans],
        "last azimuth": [list(p.cameras.values())[-1].azimuth for p in plans],
        "lamp": [next(iter(p.lights.values())).position[0] for p in plans],
    }
    thirds = {k: np.searchsorted(np.quantile(v, [1 / 3, 2 / 3]), v) for k, v in places.items()}
    for a, b in combinations(places, 2):
        thirds[f"{a}, {b}"] = 3 * thirds[a] + thirds[b]
    first = [p.transformations[0] for p in plans]
    counts = [len(p.transformations) for p in plans]
    changes: dict[str, list[Any]] = {
        "object": [t.object for t in first],
        "attribute": [t.attribute for t in first],
        "count": counts,
        "attribute, count": [(t.attribute, n) for t, n in zip(first, counts, strict=True)],
        "color": [t.value if t.attribute == "color" else "" for t in first],
    }
    for (where, third), (what, values) in product(thirds.items(), changes.items()):
        cells = Counter(zip(third.tolist(), values, strict=True))
        rows, columns = ({cell[k] for cell in cells} for k in (0, 1))
        table = [[cells[row, column] for column in columns] for row in rows]
        assert chi2_contingency(table).pvalue > 1e-4, (where, what)


SMALL = ("objects.visible=3", "transformations.count=1", "tries=1000")


def unbiased(preset, *overrides):
    return Sampler.from_config(load_config(preset, [*SMALL, *overrides]))


def test_an_unbiased_layout_does_not_tell_which_object_changes():
    """Small, hidden, near and far objects change as often as others."""
    sampler = unbiased("bench")
    facts = defaultdict(Counter)
    for index in range(400):
        plan = sampler.plan(index)
        (changed,) = {t.object for t in plan.transformations}
        camera = plan.cameras["center"]
        raster = rasterize(plan.initial, camera, sampler.world, 320, 240)
        ranks = {
            "largest": [sampler.world.sizes[o.size] + o.index * 1e-9 for o in plan.initial],
            "most pixels": raster.pixels.tolist(),
            "most covered": (raster.unoccluded - raster.pixels + 1e-9 * raster.unoccluded).tolist(),
            "nearest": [o.x for o in plan.initial],
            "rightmost": [o.y for o in plan.initial],
        }
        for name, values in ranks.items():
            order = sorted(range(3), key=values.__getitem__)
            facts[name][order.index(changed)] += 1
    assert not {name for name, counts in facts.items() if too_uneven(counts, range(3))}


MOVES = (
    "transformations.attributes=[color, size, position]",
    "transformations.moves=[inner]",
    "world.step=0.6",
    "world.steps=[1]",
)


@pytest.mark.parametrize(("overrides", "number"), [((), 20), ((*MOVES, "objects.visible=2"), 20)])
def test_an_unbiased_layout_shows_every_object_before_and_after_any_changes(overrides, number):
    sampler = unbiased("bench", *overrides, "transformations.count=[1, 4]")
    world, least = sampler.world, sampler.config.visibility.min_pixels
    for index in range(number):
        plan = sampler.plan(index)
        assert not hidden_in_some_form(plan.initial, plan.cameras.values(), world, least, 320, 240)
        assert not list(violations(plan, world, least, 320, 240))
        for state in (plan.initial, plan.final):
            for camera in plan.cameras.values():
                pixels = rasterize(visible_objects(state, world), camera, world, 320, 240).pixels
                assert pixels.min() >= least


def test_where_an_object_stands_does_not_tell_where_it_moves():
    """Neither towards the middle, nor away from the other object, nor which of them it is."""
    only = "transformations.attributes=[position]"
    sampler = unbiased("bench", *MOVES, only, "objects.visible=2")
    facts = defaultdict(Counter)
    for index in range(120):
        plan = sampler.plan(index)
        (t,) = plan.transformations
        before, after = plan.initial[t.object], plan.final[t.object]
        other = plan.initial[1 - t.object]
        step = np.array([after.x - before.x, after.y - before.y])
        for name, (x, y) in {"middle": (0.0, 0.0), "other": (other.x, other.y)}.items():
            towards = float(step @ (x - before.x, y - before.y))
            if abs(towards) > 1e-9:
                facts[name][towards > 0] += 1
        facts["farther out"][np.hypot(before.x, before.y) > np.hypot(other.x, other.y)] += 1
    assert not {name for name, counts in facts.items() if too_uneven(counts, [True, False])}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), "visibility.unbiased: with position.*transformations.moves=.inner"),
        (("transformations.moves=[inner]",), "world.step: 3 in all.*visibility.unbiased"),
    ],
)
def test_moves_that_cannot_be_unbiased_are_refused(overrides, words):
    with pytest.raises(ConfigError, match=words):
        load_config("trance", ["visibility.unbiased=true", *overrides])


def scenes(sampler, number):
    return {repr(sampler.plan(i).initial) for i in range(number)}


def test_presets_share_no_scene_at_one_seed():
    """Nor a scene up to what objects look like, nor answers more than by chance."""
    places, answers = Counter(), {}
    for preset in preset_names():
        sampler = Sampler.from_config(load_config(preset))
        plans = [sampler.plan(i) for i in range(15)]
        places.update({tuple((o.x, o.y, o.rotation) for o in plan.initial) for plan in plans})
        answers[preset] = [plan.transformations for plan in plans]
    assert set(places.values()) == {1}
    for a, b in combinations(answers.values(), 2):
        assert sum(x == y for x, y in zip(a, b, strict=True)) <= 2


@pytest.mark.parametrize(
    "change",
    ["image.width=64", "num_samples=7", "render.samples=8", "masks=false", "tries=999"],
)
def test_how_a_scene_is_drawn_does_not_change_it(change):
    first, second = (Sampler.from_config(load_config("star", c)) for c in ([], [change]))
    assert first.config.scene_seed == second.config.scene_seed


@pytest.mark.parametrize(
    "change",
    ["seed=1", "cameras.jitter=0.4", "world.grid=0.3", "objects.visible=[1, 9]"],
)
def test_what_makes_a_scene_changes_all_of_them(change):
    first, second = (Sampler.from_config(load_config("star", c)) for c in ([], [change]))
    assert not scenes(first, 5) & scenes(second, 5)


def test_seeds_are_exact_in_every_reader_of_json():
    sampler = Sampler.from_config(load_config("star"))
    assert all(sampler.plan(i).seed < 2**53 for i in range(50))

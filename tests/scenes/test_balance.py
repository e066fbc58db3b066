"""What samples are about is balanced, in the whole and in every stretch of samples."""

from collections import Counter, defaultdict
from functools import cache

import pytest

from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config

PRESETS = ("star", "trance")
TASKS = 10_000


@cache
def tasks(preset):
    balance = Sampler.from_config(load_config(preset)).balance
    return [balance.task(i) for i in range(TASKS)]


def values(preset, attribute):
    return Sampler.from_config(load_config(preset)).world.values(attribute)


def even(counts, options, tolerance):
    """Whether every option's share is within `tolerance` (relative) of the uniform one."""
    fair = sum(counts.values()) / len(options)
    assert set(counts) <= set(options)
    return {k: counts[k] / fair for k in options if abs(counts[k] / fair - 1) > tolerance} == {}


@pytest.mark.parametrize("preset", PRESETS)
def test_numbers_of_objects_and_transformations(preset):
    visible = Counter(t.visible for t in tasks(preset))
    count = Counter(len(t.transformations) for t in tasks(preset))
    assert even(visible, range(1, 11), 0.02)
    assert even(count, range(1, 5), 0.02)
    assert even(
        Counter((t.visible, len(t.transformations)) for t in tasks(preset)),
        [(v, c) for v in range(1, 11) for c in range(1, 5)],
        0.02,
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_attributes(preset):
    attributes = load_config(preset).transformations.attributes
    counts = Counter(t.attribute for task in tasks(preset) for t in task.transformations)
    assert even(counts, attributes, 0.02)
    by_count = defaultdict(Counter)
    for task in tasks(preset):
        by_count[len(task.transformations)].update(t.attribute for t in task.transformations)
    assert all(even(c, attributes, 0.05) for c in by_count.values())


@pytest.mark.parametrize("preset", PRESETS)
def test_object_index_for_every_number_of_objects(preset):
    counts = defaultdict(Counter)
    for task in tasks(preset):
        for t, move in zip(task.transformations, task.moves, strict=True):
            if move != "in":
                counts[task.visible][t.object] += 1
    if preset == "star":  # with moves, objects that come in take the place of visible ones
        assert all(even(c, range(v), 0.02) for v, c in counts.items())
    assert all(even(c, range(v), 0.05) for v, c in counts.items())


@pytest.mark.parametrize("preset", PRESETS)
def test_values(preset):
    counts = defaultdict(Counter)
    for task in tasks(preset):
        for t in task.transformations:
            counts[t.attribute][t.value] += 1
    assert all(even(c, values(preset, a), 0.05) for a, c in counts.items())


def test_kinds_of_moves():
    # With ten visible objects nobody can come in, and with few attributes changing nobody leaves.
    counts = Counter(m for t in tasks("trance") if t.visible < 10 for m in t.moves if m)
    assert even(counts, ["inner", "out", "in"], 0.25)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_prefix_is_balanced(preset):
    visible, count, attributes = Counter(), Counter(), Counter()
    kinds = load_config(preset).transformations.attributes
    for number, task in enumerate(tasks(preset)[:2000], start=1):
        visible[task.visible] += 1
        count[len(task.transformations)] += 1
        attributes.update(t.attribute for t in task.transformations)
        assert max(abs(visible[v] - number / 10) for v in range(1, 11)) <= 2
        assert max(abs(count[c] - number / 4) for c in range(1, 5)) <= 2
        fair = sum(attributes.values()) / len(kinds)
        assert max(abs(attributes[a] - fair) for a in kinds) <= 3 * number**0.5


@pytest.mark.parametrize("preset", PRESETS)
def test_every_shard_is_balanced(preset):
    for start in range(0, TASKS, 1000):
        shard = tasks(preset)[start : start + 1000]
        assert even(Counter(t.visible for t in shard), range(1, 11), 0.03)
        assert even(Counter(len(t.transformations) for t in shard), range(1, 5), 0.03)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_attribute_of_an_object_changes_once(preset):
    for task in tasks(preset):
        pairs = [(t.object, t.attribute) for t in task.transformations]
        assert len(set(pairs)) == len(pairs)
        assert task.visible <= task.total
        assert all(0 <= t.object < task.total for t in task.transformations)


def test_a_task_needs_no_earlier_task():
    balance = Sampler.from_config(load_config("trance")).balance
    picked = [9_999, 3, 512, 77]
    assert [balance.task(i) for i in picked] == [tasks("trance")[i] for i in picked]

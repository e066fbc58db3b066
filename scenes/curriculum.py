"""Which scenes are asked about more often than others, and how a sample's plan is chosen for it.

A sample can have any of an endless row of plans (`Sampler.plan`, draws). Without a curriculum it
has the first one. With weights it has one of several, chosen by lot: first by what its task is,
then by what a camera sees of it (sampling by importance, in two stages). The lot follows from the
seed, the number of the sample and the weights, so the plan can be chosen again.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from star_tvr.scenes.balance import Balance, Task
from star_tvr.scenes.cameras import Camera, angle_between
from star_tvr.scenes.errors import PlanError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.sampler import DRAWS_APART, Sampler
from star_tvr.scenes.seeds import stream
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.transformations import Transformation
from star_tvr.scenes.world import World

TASKS, LAYOUTS = 64, 4
"""Tasks among which a sample's is chosen, and of these the ones that a layout is found for."""

UNIFORM = 0.1
"""Share of the samples that have their first plan, whatever the weights."""

ANGLES, SIZES = (0.0, 30.0, 60.0, 90.0), (5.0, 8.0, 12.0)
"""Upper ends of classes: degrees between the views; diameters in percent of a picture's width."""

Weights = Mapping[str, Mapping[str, float]]
"""Of every factor, how much more often a value is asked about than by chance; 1 if not said."""

Cell = Mapping[str, Sequence[str]]
"""Of every factor, the values of a question: one, or several for `attribute`."""

Views = Sequence[tuple[str, str]]
"""Cameras of the initial and the final picture of every question about a sample."""


def task_cell(
    visible: int, transformations: Iterable[Transformation], levels: Sequence[tuple[int, int]]
) -> Cell:
    """What is known of a question without its layout.

    `objects` that are visible at the start, number of `changes`, each `attribute` that changes, and
    the `level`: the place of (changes, objects) among all that there are, from 0.
    """
    changes = list(transformations)
    return {
        "objects": [str(visible)],
        "changes": [str(len(changes))],
        "attribute": sorted({t.attribute for t in changes}),
        "level": [str(levels.index((len(changes), visible)))],
    }


def view_cell(plan: Plan, views: tuple[str, str], world: World) -> Cell:
    """What the cameras of a question show.

    `angle` between the views in degrees, and `size` of the smallest object that changes, in percent
    of the first picture's width; both by the upper end of their class.
    """
    first, last = (plan.cameras[name] for name in views)
    return {
        "angle": [_class(angle_between(first, last), ANGLES)],
        "size": [_class(_smallest(plan, first, world), SIZES)],
    }


def question_cell(plan: Plan, views: tuple[str, str], world: World, balance: Balance) -> Cell:
    """All factors of a question."""
    visible = len(visible_objects(plan.initial, world))
    task = task_cell(visible, plan.transformations, level_order(balance))
    return {**task, **view_cell(plan, views, world)}


def level_order(balance: Balance) -> list[tuple[int, int]]:
    """All (changes, visible objects) that there are, from easy to hard."""
    return sorted((count, visible) for visible, count in balance.cells)


def choose_plan(sampler: Sampler, index: int, skip: int, weights: Weights, views: Views) -> Plan:
    """The plan of a sample under a curriculum.

    Args:
        skip: how many of its choices could not be rendered.
        views: of the questions that are asked about it.

    Raises:
        PlanError: no layout was found for any of the tasks that were chosen.
    """
    balance = sampler.balance
    rng = stream(balance.seed, "curriculum", index, skip)
    draws = range(skip * TASKS, (skip + 1) * TASKS)
    if rng.random() < UNIFORM:
        return sampler.plan(index, draws[0])
    levels = level_order(balance)
    tasks = [balance.task(index + draw * DRAWS_APART) for draw in draws]
    chances = [_weight(_of_task(task, levels), weights) for task in tasks]
    plans: list[Plan] = []
    for place in _lots(chances, LAYOUTS, rng):
        try:
            plans.append(sampler.plan(index, draws[place]))
        except PlanError as failed:
            problem = failed
    if not plans:
        raise problem
    seen = [
        sum(_weight(view_cell(plan, pair, sampler.world), weights) for pair in views)
        for plan in plans
    ]
    [chosen] = _lots(seen, 1, rng)
    return plans[chosen]


def _of_task(task: Task, levels: Sequence[tuple[int, int]]) -> Cell:
    return task_cell(task.visible, task.transformations, levels)


def _weight(cell: Cell, weights: Weights) -> float:
    """The product over all factors of the mean weight of a question's values."""
    product = 1.0
    for factor, table in weights.items():
        if values := cell.get(factor):
            product *= sum(table.get(value, 1.0) for value in values) / len(values)
    return product


def _lots(chances: Sequence[float], count: int, rng: np.random.Generator) -> list[int]:
    """So many places, drawn without replacement, the more likely the greater their chance.

    The method is Efraimidis and Spirakis' (2006): the largest u^(1 / w). If all chances are 0 they
    are equal.
    """
    weights = np.asarray(chances, dtype=float)
    if not weights.any():
        weights = np.ones(len(chances))
    with np.errstate(divide="ignore"):
        keys = np.log(rng.random(len(weights))) / weights
    order = np.argsort(-keys, kind="stable")
    return [int(k) for k in order[:count] if weights[k] > 0]


def _class(value: float, ends: Sequence[float]) -> str:
    end = next((e for e in ends if value <= e + 1e-6), None)
    return f"over {ends[-1]:g}" if end is None else f"{end:g}"


def _smallest(plan: Plan, camera: Camera, world: World) -> float:
    """Diameter of the smallest object that changes, percent of the width, at the start."""
    changed = [plan.initial[k] for k in sorted({t.object for t in plan.transformations})]
    depths = camera.project(np.array([o.center(world) for o in changed]), 400, 300)[:, 2]
    focal = camera.intrinsics(400, 300)[0, 0]
    return min(
        200 * focal * o.radius(world) / max(depth, 1e-3) / 400
        for o, depth in zip(changed, depths, strict=True)
    )

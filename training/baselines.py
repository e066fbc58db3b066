"""What answers that look at no picture score: whoever reads a metric should know what chance is.

The answers do not depend on the cameras, so every scene is asked about once.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from star_tvr.scenes.plan import Plan
from star_tvr.scenes.states import State
from star_tvr.scenes.transformations import Transformation, with_equivalents
from star_tvr.scenes.world import World
from star_tvr.schemas.records import Pair
from star_tvr.training.answers import compose
from star_tvr.training.metrics import METRICS, item_of
from star_tvr.training.metrics_report import score_items
from star_tvr.training.rewards import score

SHOWN = ("tacc", "object", "pair", "ndiff")
"""Metrics in the table, before the reward."""

SILENCE = compose(())
"""The completion that names nothing, in the right form."""


def enumeration(initial: State, world: World, attributes: Sequence[str]) -> str:
    """The completion that names every triplet: each value of each attribute of each object."""
    return compose(
        Transformation(o.index, attribute, value)
        for o in initial
        for attribute in attributes
        for value in world.values(attribute)
    )


@dataclass(frozen=True)
class Baseline:
    """A trivial way of answering.

    Attributes:
        name: a key.
        title: for people.
        metrics: by key of `METRICS`, without those that do not apply; shares are from 0 to 1.
        reward: mean of the STAR reward.
    """

    name: str
    title: str
    metrics: dict[str, float]
    reward: float

    def to_json(self) -> dict[str, Any]:
        """Metrics and reward together."""
        return {"answer": self.title, **self.metrics, "reward": self.reward}


def most_frequent(plans: Sequence[Plan]) -> tuple[Transformation, ...]:
    """The answer that is right most often, in any order; of several a short one."""
    answers = Counter(tuple(sorted(plan.transformations)) for plan in plans)
    return min(answers, key=lambda a: (-answers[a], len(a), a), default=())


def baselines(plans: Sequence[Plan], world: World, attributes: Sequence[str]) -> list[Baseline]:
    """Score saying nothing, always giving the most frequent answer, and naming everything.

    Args:
        plans: at least one.
        world: their vocabulary.
        attributes: those that may change.
    """
    usual = most_frequent(plans)
    words = ", ".join(map(str, usual))
    return [
        _score("silent", "says nothing", plans, world, [SILENCE] * len(plans)),
        _score(
            "most-frequent",
            f"always the most frequent answer, {words}",
            plans,
            world,
            [compose(usual)] * len(plans),
        ),
        _score(
            "everything",
            "names every value of every attribute of every object",
            plans,
            world,
            [enumeration(plan.initial, world, attributes) for plan in plans],
        ),
    ]


def _score(
    name: str, title: str, plans: Sequence[Plan], world: World, completions: Sequence[str]
) -> Baseline:
    items = []
    rewards = []
    for plan, completion in zip(plans, completions, strict=True):
        camera = next(iter(plan.cameras))
        items.append(item_of(plan, Pair(plan.id, camera, camera), world, completion))
        truth = with_equivalents(plan.initial, plan.transformations, world)
        rewards.append(score(completion, truth).total)
    report = score_items(items)
    metrics = {
        key: estimate.value
        for key, estimate in report.overall.items()
        if estimate.value is not None and key not in ("tacc_id", "tacc_ood")
    }
    return Baseline(name, title, metrics, sum(rewards) / len(rewards))


def table(found: Sequence[Baseline]) -> Table:
    """The scores for a terminal."""
    result = Table("answer", title="what trivial answers score")
    for heading in (*(METRICS[key].label for key in SHOWN), "mean reward"):
        result.add_column(heading, justify="right")
    for baseline in found:
        cells = (
            f"{100 * baseline.metrics[key]:.1f} %"
            if METRICS[key].percent
            else f"{baseline.metrics[key]:.2f}"
            for key in SHOWN
        )
        result.add_row(baseline.title, *cells, f"{baseline.reward:.2f}")
    return result

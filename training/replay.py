"""What an answer leads to: its triplets applied to the initial state, as TRANCE's evaluator does.

Source: Hong et al., CVPR 2021.
"""

from collections.abc import Iterable
from typing import NamedTuple

from star_tvr.scenes.rules import overlapping
from star_tvr.scenes.states import State
from star_tvr.scenes.transformations import TripletError, apply, same_place
from star_tvr.scenes.world import World
from star_tvr.training.answers import Prediction


class ReplayResult(NamedTuple):
    """What an answer leads to.

    Attributes:
        state: the state it leads to; what cannot be replayed is left out.
        whole: everything could be replayed.
        legal: no overlap and nothing outside the valid area after any step.
    """

    state: State
    whole: bool
    legal: bool


def replay_answer(initial: State, predictions: Iterable[Prediction], world: World) -> ReplayResult:
    """Apply predictions in their order. Source: TRANCE's evaluator."""
    state, whole, legal = initial, True, True
    for prediction in predictions:
        if isinstance(prediction, str):
            whole = False
            continue
        try:
            state = apply(state, prediction, world)
        except TripletError:
            whole = False
            continue
        if legal and prediction.attribute in ("position", "size"):
            changed = state[prediction.object]
            others = [o for o in state if o.index != changed.index]
            legal = world.in_valid_area(changed.x, changed.y) and not any(
                overlapping(changed, other, world) for other in others
            )
    return ReplayResult(state, whole, legal)


def count_differences(first: State, second: State, world: World) -> int:
    """TRANCE's Diff: attributes of objects that differ; a position is one attribute."""
    return sum(
        (a.shape != b.shape)
        + (a.size != b.size)
        + (a.color != b.color)
        + (a.material != b.material)
        + (not same_place(a, b, world))
        for a, b in zip(first, second, strict=True)
    )

"""Transformations as triplets (object, attribute, value), their text form and their effect."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from star_tvr.scenes.errors import TvrError
from star_tvr.scenes.states import SceneObject, State, on_grid
from star_tvr.scenes.world import ATTRIBUTES, World


class TripletError(TvrError):
    """A text that is not a triplet of this world, or a triplet that does not fit the state."""


@dataclass(frozen=True, order=True)
class Transformation:
    """A triplet.

    Attributes:
        object: index.
        attribute: what changes.
        value: of a position a direction and a number of steps, such as `front-left.2`.
        equivalents: other values that lead to the same pictures, where they were looked for.
    """

    object: int
    attribute: str
    value: str
    equivalents: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.object}.{self.attribute}.{self.value}"


_TRIPLET = re.compile(r"([0-9]+)\.([a-z]+)\.([^\s.,;]+(?:\.[0-9]+)?)")


def parse_transformation(text: str) -> Transformation:
    """Read the canonical text form, as stored in `answer`.

    >>> parse_transformation("2.position.front-left.2")
    Transformation(object=2, attribute='position', value='front-left.2')

    Raises:
        TripletError: the text has another form.
    """
    match = _TRIPLET.fullmatch(text)
    if match is None or match[2] not in ATTRIBUTES:
        raise TripletError(f"{text!r} is not a triplet: write index.attribute.value")
    return Transformation(int(match[1]), match[2], match[3])


def answer_text(transformations: Iterable[Transformation]) -> str:
    """The stored answer: triplets separated by a comma and a space."""
    return ", ".join(str(t) for t in transformations)


def canonical_order(transformations: Iterable[Transformation]) -> list[Transformation]:
    """By object, and of one object color, shape, size, material, position: what SFT teaches.

    Answers are right in any order. Here objects are named as prompts list them.
    """
    return sorted(transformations, key=lambda t: (t.object, ATTRIBUTES.index(t.attribute)))


def move(value: str, world: World) -> tuple[float, float]:
    """The displacement (dx, dy), in Blender units, that a position value stands for.

    Raises:
        TripletError: the direction or the number of steps does not exist in this world.
    """
    if value not in world.values("position"):
        raise TripletError(f"{value!r} is no move: write for example front-left.2")
    direction, steps = value.split(".")
    dx, dy = world.directions[direction]
    return dx * int(steps) * world.step, dy * int(steps) * world.step


def transform(obj: SceneObject, attribute: str, value: str, world: World) -> SceneObject:
    """The object after one transformation. Nothing is checked but that the value exists.

    Raises:
        TripletError: the value is not in the world's vocabulary.
    """
    if attribute == "position":
        dx, dy = move(value, world)
        return replace(obj, x=on_grid(obj.x + dx), y=on_grid(obj.y + dy))
    if attribute not in ATTRIBUTES or value not in world.values(attribute):
        raise TripletError(f"{attribute}.{value} is not in the vocabulary of this data set")
    change: dict[str, Any] = {attribute: value}
    return replace(obj, **change)


def apply(state: State, transformation: Transformation, world: World) -> State:
    """The state after one transformation.

    Raises:
        TripletError: the object or the value does not exist.
    """
    if not 0 <= transformation.object < len(state):
        raise TripletError(
            f"{transformation} names object {transformation.object}; "
            f"the scene has objects 0 to {len(state) - 1}"
        )
    changed = transform(
        state[transformation.object], transformation.attribute, transformation.value, world
    )
    return tuple(changed if o.index == changed.index else o for o in state)


def replay(
    state: State, transformations: Iterable[Transformation], world: World
) -> tuple[State, ...]:
    """All states from the first to the last, one more than there are transformations."""
    states = [state]
    for transformation in transformations:
        states.append(apply(states[-1], transformation, world))
    return tuple(states)


def same_place(first: SceneObject, second: SceneObject, world: World) -> bool:
    """Whether pictures show two objects at one place; all places out of sight are one (TRANCE)."""
    if (first.x, first.y) == (second.x, second.y):
        return True
    return not (first.visible(world) or second.visible(world))


def with_equivalents(
    initial: State, transformations: Iterable[Transformation], world: World
) -> tuple[Transformation, ...]:
    """The transformations with their `equivalents`: any move out of the picture is as good.

    An object that moves several times, as TRANCE allows, has none.
    """
    listed = tuple(transformations)
    moves = Counter(t.object for t in listed if t.attribute == "position")
    found = []
    for t in listed:
        values: tuple[str, ...] = ()
        if t.attribute == "position" and moves[t.object] == 1:
            start = initial[t.object]
            end = transform(start, t.attribute, t.value, world)
            others = (v for v in world.values("position") if v != t.value)
            values = tuple(
                v for v in others if same_place(transform(start, "position", v, world), end, world)
            )
        found.append(replace(t, equivalents=values))
    return tuple(found)

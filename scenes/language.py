"""Objects and transformations in plain English, for prompts, galleries and reports."""

from star_tvr.scenes.states import SceneObject, State
from star_tvr.scenes.transformations import Transformation, replay
from star_tvr.scenes.world import World

LOOKS_IN_WORDS = ("size", "color", "material", "shape")
"""The attributes of an object in the order in which English, and CLEVR, name them."""


def object_words(obj: SceneObject) -> str:
    """Size, color, material and shape, in the order of CLEVR.

    >>> object_words(SceneObject(0, "cube", "large", "red", "metal", 0.0, 0.0, 0.0))
    'large red metal cube'
    """
    return " ".join(getattr(obj, attribute) for attribute in LOOKS_IN_WORDS)


def transformation_words(transformation: Transformation, before: State) -> str:
    """One change as a sentence about the object as it was just before.

    >>> cube = SceneObject(0, "cube", "large", "red", "metal", 0.0, 0.0, 0.0)
    >>> transformation_words(Transformation(0, "color", "blue"), (cube,))
    'the large red metal cube turns blue'
    >>> transformation_words(Transformation(0, "position", "front-left.2"), (cube,))
    'the large red metal cube moves 2 steps to the front left'
    """
    obj = before[transformation.object]
    value = transformation.value
    if transformation.attribute == "position":
        direction, steps = value.split(".")
        where = direction.replace("-", " ")
        towards = "backwards" if where == "behind" else f"to the {where.replace('behind', 'back')}"
        change = f"moves {steps} step{'' if steps == '1' else 's'} {towards}"
    elif transformation.attribute == "shape":
        change = f"becomes a {value}"
    elif transformation.attribute == "material":
        change = f"turns into {value}"
    elif transformation.attribute == "size":
        change = f"becomes {value}"
    else:
        change = f"turns {value}"
    return f"the {object_words(obj)} {change}"


def answer_words(
    initial: State, transformations: tuple[Transformation, ...], world: World
) -> list[str]:
    """Every change of an answer as a sentence, each about the scene as the earlier ones left it."""
    states = replay(initial, transformations, world)
    return [
        transformation_words(t, before) for t, before in zip(transformations, states, strict=False)
    ]

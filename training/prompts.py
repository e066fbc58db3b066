"""The question put to a model: two pictures, the objects of the first, and what may have changed.

A prompt is a pure function of what the asker may know: the initial state, where its objects are
in the initial image, and the vocabulary of the data set. The final state is never read here.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.config import DatasetConfig, TransformationsConfig
from star_tvr.scenes.language import object_words
from star_tvr.scenes.states import SceneObject
from star_tvr.scenes.visibility import REFERENCE_PIXELS
from star_tvr.scenes.world import World
from star_tvr.schemas.pictures import data_url
from star_tvr.schemas.records import Pair, Sample
from star_tvr.training.config import Order, PromptConfig

Message = dict[str, Any]
"""`{"role": …, "content": [part, …]}`; a part is `{"type": "text", "text": …}` or an image."""

FACING = 10.0
"""An initial camera further than this from azimuth 0, in degrees, is mentioned in the prompt."""


LEAST_SHOWN = 20
"""Pixels, counted at 320 x 240, from which on the list does not call an object hidden."""

ORDERS: Mapping[Order, str] = {
    "index": "",
    "left-to-right": ", from left to right",
    "near-to-far": ", from the nearest to the farthest",
}
"""What the full prompt says about the order of its list."""

STEPS = (
    "Reason in this notation. First picture: name reference objects, which did not change "
    "(references: 0 and 3), and where others are seen from the camera: [1, left, 0] says that 1 is "
    "left of 0; the relations are left, right, front and behind. Second picture: call its objects "
    "A, B and so on from left to right, say what each looks like (A is a small red metal cube{box})"
    " and give relations ([A, behind, B]). Then map them: A is 1; B is 0. Then compare object by "
    "object: 0: color red -> blue; 1 is unchanged."
)
BOX = " at [x0, y0, x1, y1], the pixels of its box"


def steps_text(boxes: bool) -> str:
    """The sentences that ask for reasoning in steps."""
    return STEPS.format(box=BOX if boxes else "")


def build_prompt(
    sample: Sample,
    pair: Pair,
    world: World,
    config: DatasetConfig,
    style: PromptConfig,
    seen: tuple[int, int] | None = None,
) -> list[Message]:
    """The messages for one pair, with a placeholder part for each of the two images.

    The initial image comes first. Placeholders are `{"type": "image"}` without content.

    Args:
        sample: the sample the pair belongs to; only its initial state is read.
        pair: which cameras' images are shown.
        world: the vocabulary.
        config: the resolved configuration of the data set.
        style: the wording.
        seen: width and height to which the model's processor scales the images, which coordinates
            are then of; by default they are of the stored images.
    """
    view = sample.image("initial", pair.initial)
    listed = listed_objects(sample, world, config)
    points = dict(zip(listed, projected(listed, sample, pair, world), strict=True))
    if style.order != "index":
        axis = 0 if style.order == "left-to-right" else 2
        listed.sort(key=lambda o: points[o][axis])
    width, height = seen or (view.width, view.height)
    across, down = width / view.width, height / view.height
    centers = {
        o.index: locate(u * across, v * down, width, height, style, clamp=o.visible(world))
        for o in listed
        for u, v, _ in [points[o]]
    }
    least = LEAST_SHOWN * view.width * view.height / REFERENCE_PIXELS
    shown = {o.index for o in view.objects if o.pixels >= max(1, least)}
    hidden = frozenset(o.index for o in listed if o.visible(world) and o.index not in shown)
    image: Message = {"type": "image"}
    if style.style == "compact":
        content = [image, image, _text(compact_list(listed, centers, world, hidden))]
        return [{"role": "user", "content": content}]
    question = "\n".join(
        [
            "The objects of the first picture, by index"
            f"{ORDERS[style.order]}{legend(width, height, style)}:",
            *(
                f"{o.index}: {describe(o, centers.get(o.index), world, style, o.index in hidden)}"
                for o in listed
            ),
            "",
            *rules(world, config.transformations, sample.plan.cameras[pair.initial]),
            *([steps_text(style.boxes)] if style.reasoning == "steps" else []),
        ]
    )
    content = [
        _text("First picture, before the changes:"),
        image,
        _text("Second picture, after the changes, perhaps seen from another side:"),
        image,
        _text(question),
    ]
    return [
        {"role": "system", "content": [_text(style.system)]},
        {"role": "user", "content": content},
    ]


def listed_objects(sample: Sample, world: World, config: DatasetConfig) -> list[SceneObject]:
    """The initial objects a question lists, by index.

    Those in the visible area; where objects can move, the others too, since one of them may have
    moved in and could not be named otherwise.
    """
    moves = "position" in config.transformations.attributes
    return [o for o in sample.plan.initial if moves or o.visible(world)]


def projected(
    objects: Sequence[SceneObject], sample: Sample, pair: Pair, world: World
) -> list[tuple[float, float, float]]:
    """Where the centres of objects are, or would be, in the initial image.

    Each is u and v, in pixels, and the distance along the camera's axis.
    """
    view = sample.image("initial", pair.initial)
    camera = sample.plan.cameras[pair.initial]
    centers = np.array([o.center(world) for o in objects]).reshape(-1, 3)
    points = camera.project(centers, view.width, view.height)
    return [(float(u), float(v), float(depth)) for u, v, depth in points]


def locate(
    u: float, v: float, width: int, height: int, style: PromptConfig, clamp: bool = True
) -> str:
    """A point of an image of `width` x `height` pixels, as prompt text.

    Args:
        u, v: the point, in pixels.
        clamp: whether a point beyond the edge counts to the cell at the edge; otherwise cells go
            on beyond it, with negative numbers to the left and above.

    >>> locate(159.4, 60.0, 160, 120, PromptConfig(location="pixel"))
    '(159, 60)'
    >>> locate(159.4, 60.0, 160, 120, PromptConfig(location="cell", cells=8))
    '7,4'
    >>> locate(-30, 60.0, 160, 120, PromptConfig(location="cell", cells=8), clamp=False)
    '-2,4'
    """
    if style.location == "pixel":
        return f"({round(u)}, {round(v)})"
    if style.location == "cell":
        cells = [math.floor(x / length * style.cells) for x, length in ((u, width), (v, height))]
        if clamp:
            cells = [min(max(c, 0), style.cells - 1) for c in cells]
        return f"{cells[0]},{cells[1]}"
    return ""


def legend(width: int, height: int, style: PromptConfig) -> str:
    """What the locations in the list of objects mean."""
    if style.location == "pixel":
        return f", with the pixel of their centre (from the top left of {width} x {height})"
    if style.location == "cell":
        n = style.cells
        return f", with the cell of their centre (column,row from the top left of {n} x {n})"
    return ""


def describe(
    obj: SceneObject, center: str | None, world: World, style: PromptConfig, hidden: bool = False
) -> str:
    """One object in words: `large cyan rubber sphere at (120, 88)`.

    Of an object outside the visible area, the place where it would be seen is given: from there a
    move into the picture is counted.

    Args:
        hidden: whether others cover it, all but less than `LEAST_SHOWN` pixels.
    """
    words = object_words(obj)
    if not obj.visible(world):
        words += ", outside the picture"
    elif hidden:
        words += ", hidden behind others"
    if not center:
        return words
    return f"{words} {'at' if style.location == 'pixel' else 'in cell'} {center}"


def compact_list(
    objects: Sequence[SceneObject],
    centers: Mapping[int, str],
    world: World,
    hidden: Collection[int] = (),
) -> str:
    """One line an object, nothing else: `0 large cyan rubber sphere 3,5`.

    Before the place `-` says that the object is outside the picture, and `hidden` that others
    cover it.
    """
    lines = []
    for o in objects:
        mark = "hidden " if o.index in hidden else "" if o.visible(world) else "- "
        lines.append(f"{o.index} {object_words(o)} {mark}{centers.get(o.index, '')}".rstrip())
    return "\n".join(lines)


def rules(world: World, changes: TransformationsConfig, initial: Camera) -> list[str]:
    """The sentences of the full prompt that say what may change and how to write it down."""
    attributes, (low, high) = changes.attributes, changes.count
    number = f"{low} change{'' if low == 1 else 's'}" if low == high else f"{low} to {high} changes"
    lines = [
        f"Between the pictures {number} happened. A change sets one attribute of one object to a "
        "new value, and no attribute of an object changes twice. The attributes and their values:"
    ]
    lines += [
        f"{attribute}: {', '.join(world.values(attribute))}"
        for attribute in attributes
        if attribute != "position"
    ]
    if "position" in attributes:
        steps = " or ".join(str(n) for n in world.steps)
        lines.append(
            f"position: a direction ({', '.join(world.directions)}) and a number of steps "
            f"({steps}) of {world.step:g} units, for example {world.values('position')[0]}; sizes "
            f"are radii of {', '.join(f'{r:g} ({name})' for name, r in world.sizes.items())} units"
        )
        if abs(initial.azimuth) > FACING:
            lines.append(
                "Directions belong to the scene, not to the picture; the first picture is taken "
                f"{abs(initial.azimuth):.0f} degrees to the "
                f"{'right' if initial.azimuth > 0 else 'left'} of its front."
            )
    lines.append(visibility_rules(changes))
    lines.append(
        "Write each change as index.attribute.value and separate them by commas, in "
        f"any order, for example <answer>{example_answer(world, attributes)}</answer>."
    )
    return lines


def visibility_rules(changes: TransformationsConfig) -> str:
    """The sentences about what can be seen of a change.

    >>> visibility_rules(TransformationsConfig(attributes=("color",)))
    'Every object that changes can be seen in both pictures.'
    """
    crossing = [kind for kind in ("out", "in") if kind in changes.moves]
    if "position" not in changes.attributes or not crossing:
        return "Every object that changes can be seen in both pictures."
    words = " or ".join({"out": "leaves the picture", "in": "enters it"}[k] for k in crossing)
    return (
        "Every object that changes can be seen in both pictures, but for one that "
        f"{words}, which changes in nothing else."
    )


def example_answer(world: World, attributes: Sequence[str]) -> str:
    """A well-formed answer made of the vocabulary alone, the same for every sample.

    >>> from star_tvr.schemas.config import load_config
    >>> example_answer(load_config("star").world, ["color", "size"])
    '0.color.gray, 1.size.small'
    """
    return ", ".join(f"{k}.{a}.{world.values(a)[0]}" for k, a in enumerate(attributes[:2]))


def answer_completion(answer: str, thought: str = "") -> list[Message]:
    """The assistant's message that gives `answer`, in the answer language."""
    text = f"<think>{thought}</think><answer>{answer}</answer>"
    return [{"role": "assistant", "content": [_text(text)]}]


def with_images(messages: Sequence[Message], images: Sequence[Any]) -> list[Message]:
    """The messages with their image placeholders filled, in order.

    Raises:
        ValueError: there are more or fewer placeholders than images.
    """
    left = list(images)
    filled = []
    for message in messages:
        content = []
        for part in message["content"]:
            if part["type"] == "image":
                if not left:
                    raise ValueError("more image placeholders than images")
                part = {"type": "image", "image": left.pop(0)}
            content.append(part)
        filled.append({**message, "content": content})
    if left:
        raise ValueError("more images than image placeholders")
    return filled


def wire_messages(messages: Sequence[Message]) -> list[Message]:
    """Messages as the chat API has them; images become PNG data URLs, where they stand."""
    wired = []
    for message in messages:
        content = [
            {"type": "image_url", "image_url": {"url": data_url(part["image"])}}
            if part["type"] == "image"
            else part
            for part in message["content"]
        ]
        text_only = len(content) == 1 and content[0]["type"] == "text"
        wired.append({**message, "content": content[0]["text"] if text_only else content})
    return wired


def flat_messages(messages: Sequence[Message]) -> list[Message]:
    """The messages as plain text, with `<image>` where an image goes."""
    return [
        {
            "role": message["role"],
            "content": "\n".join(
                "<image>" if part["type"] == "image" else part["text"]
                for part in message["content"]
            ),
        }
        for message in messages
    ]


def _text(text: str) -> Message:
    return {"type": "text", "text": text}

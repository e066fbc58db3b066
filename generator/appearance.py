"""Whether pictures show what the labels say, judged by images and masks alone.

This is a check on the whole chain: plan, stage, materials, renderer, masks. It knows the answer and
the palette, but nothing of how pictures are made.

Neighbours cast shadows on an object, and are seen in it and through it; but they hardly ever reach
all of it. So an object is called wrong only when nearly all of its pixels say so, `MOST` of those
inside its outline: where one in five agrees with the label, something else explains the others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from star_tvr.scenes.world import World
from star_tvr.schemas.records import Sample

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Pictures = Mapping[tuple[str, str], tuple[Bytes, Bytes]]
"""(image, mask) of every (state, camera). Shapes: (h, w, 3), (h, w)."""

# tests/benchmarks/bench_validate.py measures how often intact samples are called wrong, and how
# often damaged ones are found.

MOST = 0.8
"""Share of an object's pixels that must disagree with its label."""

LEAST_PIXELS = 15
"""Visible pixels inside an object's outline below which its look is not judged."""

SAME = 5.0
"""Levels (of 255) by which half of the pixels of a changed object differ at least."""

DIFFERENT = 14.0
"""Levels by which an object that did not change differs nowhere but in the light on it."""

RELIT = 3.0
"""The same when all its pixels are made brighter or darker by a common factor first."""

UNOCCLUDED = 0.95
"""Visibility from which an untouched object's outline must stay."""

OTHER_OUTLINE = 0.1
"""Share of the pixels of two outlines together that one of them lacks, for them to be others."""

SAME_OUTLINE = 0.97
"""Share that both have, for a changed object's outlines to be the same."""

OTHER_COLOR = (7.0, 12.0)
"""Degrees in linear RGB by which another color of the palette is nearer than the named one, for
opaque and for clear materials, which also have the color of what is behind them."""

HALF = 0.5
"""Visibility from which the look of an object is judged; less of it can lie in one reflection."""

PALE = 0.06
"""White for each part of its color that a quarter of an opaque object's pixels stay below."""

GRAY = 0.15
"""Range of the channels of what counts as gray, linear, for the largest of them."""

COLORFUL = 0.05
"""Range of the channels, linear, of colors that white changes."""


Kind = Literal["outline", "same", "different", "place", "color", "material"]


@dataclass(frozen=True)
class Judgement:
    """How much one object's pixels speak against its labels.

    Attributes:
        field: image and object.
        kind: what was judged: whether an untouched object keeps its `outline`; a changed one looks
            the `same`, or an untouched one `different`; the `place` of what changed; the `color`;
            and whether an opaque `material` looks clear.
        strength: 1 is where an object is called wrong; twice as much is twice as far from right.
        message: what is wrong then.
    """

    field: str
    kind: Kind
    strength: float
    message: str


def check_appearance(sample: Sample, world: World, pictures: Pictures) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for every object that does not look as the answer says.

    Args:
        world: of the data set, for its colors and materials.
        pictures: what could be decoded.
    """
    for judged in judge_appearance(sample, world, pictures):
        if judged.strength > 1:
            yield judged.field, judged.message


def judge_appearance(sample: Sample, world: World, pictures: Pictures) -> Iterator[Judgement]:
    """Every judgement that `check_appearance` makes, right or wrong."""
    colors = np.array([*world.colors.values()], dtype=float)
    palette = dict(zip(world.colors, _directions(colors), strict=True))
    clear = frozenset(k for k, v in world.materials.items() if v.transmission)
    yield from _judge_changes(sample, pictures)
    yield from _judge_places(sample, palette, clear, pictures)
    yield from _judge_colors(sample, palette, clear, pictures)
    yield from _judge_materials(sample, world, pictures)


def _judge_changes(sample: Sample, pictures: Pictures) -> Iterator[Judgement]:
    """What changed looks different from the same camera, what did not looks the same."""
    turned = {
        o.index
        for o, p in zip(sample.plan.initial, sample.plan.final, strict=True)
        if o.rotation != p.rotation
    }
    changed = {t.object for t in sample.plan.transformations}
    for camera in sorted({c for s, c in pictures if s == "initial" and ("final", c) in pictures}):
        (before, mask), (after, other) = pictures["initial", camera], pictures["final", camera]
        seen, later = (_visibility(sample, (state, camera)) for state in ("initial", "final"))
        for index in sorted(seen.keys() & later.keys() - turned):
            first, second = mask == index + 1, other == index + 1
            inside = _inside(first & second)
            overlap = (first & second).sum() / max(1, (first | second).sum())
            whole = min(seen[index], later[index]) >= UNOCCLUDED
            field = f"final-{camera}: objects.{index}"
            if index not in changed and whole and first.sum() >= LEAST_PIXELS:
                message = "was not transformed, but has another outline than before"
                yield Judgement(field, "outline", float((1 - overlap) / OTHER_OUTLINE), message)
            if inside.sum() < LEAST_PIXELS:
                continue
            old, new = before[inside].astype(float), after[inside].astype(float)
            differences = _differences(old, new)
            if index not in changed and min(seen[index], later[index]) >= HALF:
                relit = _differences(old * _factor(old, new), new)
                strength = min(
                    float(np.quantile(differences, 1 - MOST)) / DIFFERENT,
                    float(np.quantile(relit, 1 - MOST)) / RELIT,
                )
                message = "was not transformed, but looks different from the initial image"
                yield Judgement(field, "different", strength, message)
            elif index in changed and overlap > SAME_OUTLINE:
                strength = SAME / max(float(np.median(differences)), 1e-3)
                message = "was transformed, but looks as in the initial image"
                yield Judgement(field, "same", strength, message)


def _differences(old: Floats, new: Floats) -> Floats:
    """Largest difference of any channel, in levels. Shapes: (n, 3), (n, 3) to (n,)."""
    return np.asarray(np.abs(old - new).max(axis=1))


def _factor(old: Floats, new: Floats) -> float:
    """How many times as bright pixels have become."""
    return float(np.median((new.sum(axis=1) + 6) / (old.sum(axis=1) + 6)))


def _inside(mask: Mask) -> Mask:
    """The pixels of a mask whose four neighbours belong to it, too: no edge is mixed into them."""
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def _judge_places(
    sample: Sample, palette: Mapping[str, Floats], clear: frozenset[str], pictures: Pictures
) -> Iterator[Judgement]:
    """Where there is an object in one picture and ground in the other, the first has its color."""
    for t in sample.plan.transformations:
        for (state, camera), (image, mask) in pictures.items():
            opposite = pictures.get(
                ({"initial": "final", "final": "initial"}.get(state, ""), camera)
            )
            if opposite is None:
                continue
            obj = getattr(sample.plan, state)[t.object]
            fresh = _inside(mask == t.object + 1) & (opposite[1] == 0)
            if fresh.sum() < LEAST_PIXELS:
                continue
            here, there = (
                float(np.median(_angles(picture[fresh], palette[obj.color])))
                for picture in (image, opposite[0])
            )
            strength = (here - there) / OTHER_COLOR[obj.material in clear]
            field = f"{state}-{camera}: objects.{t.object}"
            yield Judgement(field, "place", strength, "is not where its mask is")


def _judge_colors(
    sample: Sample, palette: Mapping[str, Floats], clear: frozenset[str], pictures: Pictures
) -> Iterator[Judgement]:
    """Every object has its color in every picture, as far as the palette can tell it from others.

    Light and material make a color brighter or darker, so it is a direction in linear RGB.
    """
    names = list(palette)
    recolored = {t.object for t in sample.plan.transformations if t.attribute == "color"}
    for (state, camera), (image, mask) in pictures.items():
        if state not in ("initial", "final"):
            continue
        shown = _visibility(sample, (state, camera))
        for obj in getattr(sample.plan, state):
            inside = _inside(mask == obj.index + 1)
            if inside.sum() < LEAST_PIXELS or shown[obj.index] < HALF:
                continue
            pixels = image[inside]
            nearer = _angles(pixels, palette[obj.color]) - np.array(
                [_angles(pixels, palette[name]) for name in names]
            )
            shares = np.quantile(nearer, 1 - MOST, axis=1)
            best = int(shares.argmax())
            turned = state == "final" and obj.index in recolored
            yield Judgement(
                f"{state}-{camera}: objects.{obj.index}",
                "color",
                float(shares[best]) / OTHER_COLOR[obj.material in clear],
                f"should {'have turned' if turned else 'be'} {obj.color}, but its pixels are "
                f"nearer to {names[best]}",
            )


def _judge_materials(sample: Sample, world: World, pictures: Pictures) -> Iterator[Judgement]:
    """What is paler than its color in every picture of a state is clear: it shows the ground.

    That takes gray surroundings. Nothing else about a material is judged: what tells rubber from
    metal are highlights, which neighbours hide; and before something of its own color glass is as
    full of it as they are.
    """
    for state in ("initial", "final"):
        shown = [(k, *v) for k, v in pictures.items() if k[0] == state and _is_gray(*v)]
        for obj in getattr(sample.plan, state):
            color = _linear(np.array(world.colors[obj.color], dtype=float))
            material = world.materials[obj.material]
            if np.ptp(color) < COLORFUL or material.transmission or material.pattern:
                continue
            views = [
                _paleness(image[_inside(mask == obj.index + 1)], color)
                for key, image, mask in shown
                if _visibility(sample, key).get(obj.index, 0) >= HALF
            ]
            quarters = [float(np.quantile(v, 0.25)) for v in views if len(v) >= LEAST_PIXELS]
            if quarters:
                yield Judgement(
                    f"states.{state}.objects.{obj.index}.material",
                    "material",
                    min(quarters) / PALE,
                    f"is {obj.material}, but it looks clear in all pictures",
                )


def _is_gray(image: Bytes, mask: Bytes) -> bool:
    """Whether the surroundings of the objects are."""
    around = np.median(_linear(image[mask == 0].astype(float).reshape(-1, 3)), axis=0)
    return bool(np.ptp(around) <= GRAY * around.max())


def _visibility(sample: Sample, key: tuple[str, str]) -> dict[int, float]:
    """How much is seen of every object of an image."""
    return {o.index: o.visibility for o in sample.image(*key).objects}


def _paleness(pixels: Bytes, color: Floats) -> Floats:
    """How much white is in pixels for each part of a color. Shapes: (n, 3), (3,) to (n,).

    Pixels are taken for sums of both in linear RGB, as near as that comes (least squares).
    """
    parts = np.linalg.pinv(np.stack([color, np.ones(3)], axis=1)) @ _linear(pixels.astype(float)).T
    return np.asarray(parts[1] / np.maximum(parts[0], 1e-3))


def _angles(pixels: Bytes, direction: Floats) -> Floats:
    """Between pixels and a direction in linear RGB, degrees. Shapes: (n, 3), (3,) to (n,)."""
    cosines = _directions(pixels.astype(float)) @ direction
    return np.asarray(np.degrees(np.arccos(np.clip(cosines, -1, 1))))


def _directions(colors: Floats) -> Floats:
    """Unit vectors in linear RGB of sRGB colors, 0 to 255. Shape: (n, 3)."""
    linear = _linear(colors)
    return np.asarray(linear / np.linalg.norm(linear, axis=1, keepdims=True))


def _linear(colors: Floats) -> Floats:
    """Linear RGB of sRGB colors, 0 to 255. Any shape."""
    c = (colors + 1) / 256  # black has a direction, too
    return np.asarray(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4))

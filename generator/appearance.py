"""Whether pictures show what the labels say, judged by images and masks alone.

This is a check on the whole chain: plan, stage, materials, renderer, masks. It knows the answer and
the palette, but nothing of how pictures are made.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from star_tvr.schemas.records import Sample

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Pictures = Mapping[tuple[str, str], tuple[Bytes, Bytes]]
"""(image, mask) of every (state, camera). Shapes: (h, w, 3), (h, w)."""

SAME = 8.0
"""Levels (of 255) by which half of an object's pixels may differ and it still looks the same.

Over 35 rendered scenes with untouched objects the largest median was 3; with transformed ones the
smallest was 15. Light that neighbours reflect onto an object is what remains.
"""

NEAR = 40.0
"""The same for an object close to one that changed, and so to its shadow and its reflection."""

LEAST_PIXELS = 40
"""Visible pixels below which an object's look is not judged."""

UNOCCLUDED = 0.95
"""Visibility from which an untouched object's outline must stay."""


def check_appearance(
    sample: Sample,
    colors: Mapping[str, tuple[int, int, int]],
    clear: frozenset[str],
    pictures: Pictures,
) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for every object that does not look as the answer says.

    Args:
        colors: the palette, sRGB 0-255.
        clear: materials through which other objects are seen; untouched objects of these are not
            judged close to changes.
        pictures: what could be decoded.
    """
    turned = {
        o.index
        for o, p in zip(sample.plan.initial, sample.plan.final, strict=True)
        if o.rotation != p.rotation
    }
    changed = {t.object for t in sample.plan.transformations}
    for camera in sorted({c for s, c in pictures if s == "initial" and ("final", c) in pictures}):
        (before, mask), (after, other) = pictures["initial", camera], pictures["final", camera]
        seen = {o.index: o.visibility for o in sample.image("initial", camera).objects}
        later = {o.index: o.visibility for o in sample.image("final", camera).objects}
        for index in sorted(seen.keys() & later.keys() - turned):
            first, second = mask == index + 1, other == index + 1
            if min(first.sum(), second.sum()) < LEAST_PIXELS:
                continue
            common = first & second
            overlap = common.sum() / (first | second).sum()
            differences = np.abs(before.astype(int) - after.astype(int)).max(axis=2)[common]
            field = f"final-{camera}: objects.{index}"
            if index in changed:
                if overlap > 0.97 and np.median(differences) < SAME:
                    yield field, "was transformed, but looks as in the initial image"
            elif min(seen[index], later[index]) >= UNOCCLUDED:
                near = _near_changes(sample, camera, index, changed)
                if near and sample.plan.initial[index].material in clear:
                    continue
                limit = NEAR if near else SAME
                if overlap < 0.9 or np.median(differences) > limit:
                    yield field, "was not transformed, but looks different from the initial image"
    yield from _check_colors(sample, colors, pictures)


def _near_changes(sample: Sample, camera: str, index: int, changed: set[int]) -> bool:
    """Whether the box of an object, twice as large, meets that of a changed one in either image."""
    for state in ("initial", "final"):
        boxes = {o.index: o.bbox for o in sample.image(state, camera).objects if o.bbox}
        x0, y0, x1, y1 = boxes[index]
        dx, dy = (x1 - x0) / 2, (y1 - y0) / 2
        for other in changed & boxes.keys():
            a0, b0, a1, b1 = boxes[other]
            if a0 < x1 + dx and a1 > x0 - dx and b0 < y1 + dy and b1 > y0 - dy:
                return True
    return False


def _check_colors(
    sample: Sample, colors: Mapping[str, tuple[int, int, int]], pictures: Pictures
) -> Iterator[tuple[str, str]]:
    """A color change leads towards the color named, in every view.

    Light differs from place to place and mirrors are bright or dark, so it is enough that either
    the color or its hue comes nearer.
    """
    for t in sample.plan.transformations:
        if t.attribute != "color":
            continue
        target = np.array(colors[t.value], dtype=float)
        near = {
            view: distances
            for view, picture in pictures.items()
            if (distances := _distances(picture, t.object, target)) is not None
        }
        before = [d for (state, _), d in near.items() if state == "initial"]
        for (state, camera), after in near.items():
            if state == "final" and before and all(after >= np.min(before, axis=0)):
                yield (
                    f"final-{camera}: objects.{t.object}",
                    f"should have turned {t.value}, but its pixels are no nearer to that color",
                )


def _distances(picture: tuple[Bytes, Bytes], index: int, target: Floats) -> Floats | None:
    """From the median color of an object to another: in sRGB levels, and in shares of R, G and B.

    None if too little of the object is seen. Shape: (2,).
    """
    image, mask = picture
    pixels = image[mask == index + 1]
    if len(pixels) < LEAST_PIXELS:
        return None
    color = np.median(pixels, axis=0)
    hue, target_hue = (c / max(float(c.sum()), 1.0) for c in (color, target))
    return np.array([np.linalg.norm(color - target), np.linalg.norm(hue - target_hue)])

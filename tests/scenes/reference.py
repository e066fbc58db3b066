"""The rules of the world once more, on plain JSON and by brute force, to check the planner by.

Written from the description of TRANCE and from the data set's format, with its own geometry: it
imports nothing of the project. `front` is +x, towards the center camera, and `right` is +y.
"""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

Json = dict[str, Any]
Floats = NDArray[np.float64]

RADII = {"small": 0.3, "medium": 0.6, "large": 0.9}
WORDS = {
    "shape": {"cube", "sphere", "cylinder"},
    "size": set(RADII),
    "material": {"rubber", "metal", "glass"},
    "color": {"gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"},
}
COMPASS = {"front": (1, 0), "behind": (-1, 0), "left": (0, -1), "right": (0, 1)}
GAP, GRID, STEP, VISIBLE, VALID = 0.15, 0.15, 1.5, 3.0, 6.0
HALF_HEIGHT = {"cube": 0.5**0.5, "sphere": 1.0, "cylinder": 1.0}
ROUNDING = {"cube": 0.08, "cylinder": 0.04}
LEAST_PIXELS = 150 - 5  # single pixels at the edges may be counted either way


# Rules


def broken_rules(sample: Json) -> set[str]:
    """The names of the rules that a sample breaks; its objects and values must exist."""
    states = replay(sample)
    return {rule for rule, check in RULES.items() if any(check(sample, states))}


def replay(sample: Json) -> list[list[Json]]:
    """Every state from the initial to the final one."""
    states = [sample["states"]["initial"]["objects"]]
    for change in sample["transformations"]:
        now = [dict(o) for o in states[-1]]
        target = now[change["object"]]
        if change["attribute"] == "position":
            dx, dy = displacement(change["value"])
            x, y, _ = target["position"]
            target["position"] = [x + dx, y + dy, 0.0]
        else:
            target[change["attribute"]] = change["value"]
        for o in now:
            o["position"] = [*o["position"][:2], HALF_HEIGHT[o["shape"]] * RADII[o["size"]]]
            o["visible"] = inside(o, VISIBLE)
        states.append(now)
    return states


def displacement(value: str) -> tuple[float, float]:
    direction, steps = value.split(".")
    parts = [COMPASS[p] for p in direction.split("-")]
    length = STEP * int(steps)
    return length * sum(p[0] for p in parts), length * sum(p[1] for p in parts)


def inside(o: Json, reach: float) -> bool:
    return max(abs(o["position"][0]), abs(o["position"][1])) <= reach + 1e-6


def overlap(sample: Json, states: list[list[Json]]) -> Iterator[bool]:
    for state in states:
        for a, b in combinations(state, 2):
            distance = np.hypot(*np.subtract(a["position"][:2], b["position"][:2]))
            yield distance < RADII[a["size"]] + RADII[b["size"]] + GAP - 1e-6


def out_of_range(sample: Json, states: list[list[Json]]) -> Iterator[bool]:
    yield from (not inside(o, VALID) for state in states for o in state)


def unseen_move(sample: Json, states: list[list[Json]]) -> Iterator[bool]:
    for change, before, after in zip(sample["transformations"], states, states[1:], strict=False):
        k = change["object"]
        moved = change["attribute"] == "position"
        yield moved and not (inside(before[k], VISIBLE) or inside(after[k], VISIBLE))


def unseen_change(sample: Json, states: list[list[Json]]) -> Iterator[bool]:
    """What changes other than its place has to be seen before and after."""
    for change in sample["transformations"]:
        ends = (states[0][change["object"]], states[-1][change["object"]])
        yield change["attribute"] != "position" and not all(inside(o, VISIBLE) for o in ends)


def twice(sample: Json, states: list[list[Json]]) -> Iterator[bool]:
    pairs = [(t["object"], t["attribute"]) for t in sample["transformations"]]
    yield len(set(pairs)) < len(pairs)


def no_effect(sample: Json, states: list[list[Json]]) -> Iterator[bool]:
    for change, before, after in zip(sample["transformations"], states, states[1:], strict=False):
        key = change["attribute"]
        yield before[change["object"]][key] == after[change["object"]][key]


def occluded(sample: Json, states: list[list[Json]]) -> Iterator[bool]:
    yield from (pixels < LEAST_PIXELS for pixels in shown(sample, states))


RULES: dict[str, Callable[[Json, list[list[Json]]], Iterator[bool]]] = {
    "overlap": overlap,
    "out of range": out_of_range,
    "unseen move": unseen_move,
    "unseen change": unseen_change,
    "twice": twice,
    "no effect": no_effect,
    "occluded": occluded,
}


def shown(sample: Json, states: list[list[Json]]) -> Iterator[int]:
    """Pixels of every changed object in every view, at 320 x 240."""
    changed = {t["object"] for t in sample["transformations"]}
    for image in sample["images"]:
        state = states[0] if image["state"] == "initial" else states[-1]
        there = [o for o in state if inside(o, VISIBLE)]
        wanted = [k for k, o in enumerate(there) if o["index"] in changed]
        ids = id_map(there, sample["cameras"][image["camera"]], 320, 240, wanted)
        yield from (int((ids == k).sum()) for k in wanted)


# Geometry


def axes(camera: Json) -> Floats:
    """Rows: right, down, forward."""
    forward = np.subtract(camera["target"], camera["position"])
    forward /= np.linalg.norm(forward)
    right = np.array([forward[1], -forward[0], 0.0])
    right /= np.linalg.norm(right)
    return np.array([right, np.cross(forward, right), forward])


def project(points: Floats, camera: Json, width: int, height: int) -> Floats:
    """Pixels (u, v) and depth; (n, 3) to (n, 3)."""
    x, y, depth = axes(camera) @ (points - camera["position"]).T
    focal = camera["focal_length"] / camera["sensor_width"] * width
    return np.column_stack([width / 2 + focal * x / depth, height / 2 + focal * y / depth, depth])


def id_map(
    objects: list[Json],
    camera: Json,
    width: int,
    height: int,
    wanted: list[int] | None = None,
) -> NDArray[np.int64]:
    """Which object is seen at the centre of each pixel: its place in the list, or -1.

    Args:
        wanted: right only where these would be alone; everything if None.
    """
    outlines = [outline(o, camera, width, height) for o in objects]
    ids = np.full((height, width), -1)
    nearest = np.full((height, width), np.inf)
    relevant = np.zeros((height, width), dtype=bool)
    for k in range(len(objects)) if wanted is None else wanted:
        relevant |= outlines[k]
    for k, o in enumerate(objects):
        rows, columns = np.nonzero(outlines[k] & relevant)
        if rows.size:
            distance = hit(o, camera, columns + 0.5, rows + 0.5, width, height)
            closer = distance < nearest[rows, columns]
            nearest[rows[closer], columns[closer]] = distance[closer]
            ids[rows[closer], columns[closer]] = k
    return ids


def outline(o: Json, camera: Json, width: int, height: int) -> NDArray[np.bool_]:
    """Pixels whose centre lies in the convex hull of the projected surface."""
    points = place(surface(o["shape"]), o)
    hull = ConvexHull(project(points, camera, width, height)[:, :2])
    low = np.clip(np.floor(hull.min_bound).astype(int), 0, [width, height])
    high = np.clip(np.ceil(hull.max_bound).astype(int) + 1, 0, [width, height])
    u, v = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
    normals, offsets = hull.equations[:, :2], hull.equations[:, 2]
    pixels = np.stack([u.ravel(), v.ravel()])
    mask = np.zeros((height, width), dtype=bool)
    within = (normals @ pixels + offsets[:, None] <= 0).all(axis=0)
    mask[low[1] : high[1], low[0] : high[0]] = within.reshape(u.shape)
    return mask


def place(points: Floats, o: Json) -> Floats:
    """From the unit solid's coordinates to the world's."""
    cos, sin = np.cos(o["rotation"]), np.sin(o["rotation"])
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return points @ turn.T * RADII[o["size"]] + o["position"]


@cache
def surface(shape: str) -> Floats:
    """Points on the surface of the solid of horizontal radius 1 around the origin."""
    ball = sphere_points(2500 if shape == "sphere" else 700)
    if shape == "sphere":
        return ball
    b, h = ROUNDING[shape], HALF_HEIGHT[shape]
    if shape == "cube":
        a = 0.5**0.5 - b
        corners = np.array([(x, y, z) for x in (-a, a) for y in (-a, a) for z in (b - h, h - b)])
        octants = [ball[(np.sign(ball) == np.sign(c)).all(axis=1)] for c in corners]
        return np.vstack([c + b * part for c, part in zip(corners, octants, strict=True)])
    angle = 2 * np.pi * np.arange(64) / 64
    bend = np.linspace(0, np.pi / 2, 4)
    rings = [(1 - b + b * np.cos(t), h - b + b * np.sin(t)) for t in bend]
    return np.array(
        [(r * np.cos(p), r * np.sin(p), s * z) for r, z in rings for s in (-1, 1) for p in angle]
    )


def sphere_points(count: int) -> Floats:
    """A spiral of points."""
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (1 + 5**0.5) * np.arange(count)
    ring = np.sqrt(1 - z * z)
    return np.column_stack([ring * np.cos(turn), ring * np.sin(turn), z])


def hit(o: Json, camera: Json, u: Floats, v: Floats, width: int, height: int) -> Floats:
    """How far along the ray through each pixel the solid, without its rounding, begins.

    A ray that meets only the neighbourhood of a rounded edge counts where it passes the axis.
    """
    focal = camera["focal_length"] / camera["sensor_width"] * width
    local = np.column_stack([(u - width / 2) / focal, (v - height / 2) / focal, np.ones_like(u)])
    ray = local @ axes(camera)
    cos, sin = np.cos(o["rotation"]), np.sin(o["rotation"])
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) / RADII[o["size"]]
    start = turn @ np.subtract(camera["position"], o["position"])
    ray = ray @ turn.T
    h = HALF_HEIGHT[o["shape"]]
    with np.errstate(divide="ignore", invalid="ignore"):
        if o["shape"] == "sphere":
            near, far = quadratic(ray, start, slice(0, 3))
        elif o["shape"] == "cylinder":
            near, far = interval(quadratic(ray, start, slice(0, 2)), slab(ray, start, 2, h))
        else:
            near, far = slab(ray, start, 2, h)
            for axis in (0, 1):
                near, far = interval((near, far), slab(ray, start, axis, 0.5**0.5))
    passing = -(ray[:, :2] @ start[:2]) / (ray[:, :2] ** 2).sum(axis=1)
    return np.where(near <= far, near, passing)


Span = tuple[Floats, Floats]


def quadratic(ray: Floats, start: Floats, part: slice) -> Span:
    """Where rays are within 1 of the origin, in the coordinates of `part`."""
    r, s = ray[:, part], start[part]
    a, b, c = (r * r).sum(axis=1), r @ s, s @ s - 1
    root = np.sqrt(b * b - a * c)
    return np.nan_to_num((-b - root) / a, nan=np.inf), np.nan_to_num((-b + root) / a, nan=-np.inf)


def slab(ray: Floats, start: Floats, axis: int, half: float) -> Span:
    """Where rays are within `half` of the origin along one axis."""
    one, two = (-half - start[axis]) / ray[:, axis], (half - start[axis]) / ray[:, axis]
    return np.minimum(one, two), np.maximum(one, two)


def interval(first: Span, second: Span) -> Span:
    return np.maximum(first[0], second[0]), np.minimum(first[1], second[1])

"""What a camera sees of each object, computed without rendering.

Every solid is convex and stands inside a vertical cylinder, and no two cylinders touch. Two facts
make visibility exact and cheap. The silhouette of a convex solid is convex, so an image row meets
it in one span. And of two objects, the one that cannot hide the other follows from the camera's
position on the ground alone (`draw_order`), so painting back to front needs no depth buffer.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scenes.cameras import Camera
from scenes.shapes import Shape, balls
from scenes.states import SceneObject
from scenes.world import World

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

REFERENCE_PIXELS = 320 * 240
"""Pixel thresholds are counted in an image of this size (TRANCE)."""

_DIRECTIONS = 72


@dataclass(frozen=True)
class View:
    """One state seen by one camera.

    Attributes:
        ids: position in the list of objects of what each pixel shows, -1 for background.
            Shape: (height, width).
        pixels: visible pixels of every object. Shape: (n,).
        unoccluded: pixels that every object would have were it alone. Shape: (n,).
    """

    ids: NDArray[np.int16]
    pixels: Integers
    unoccluded: Integers


def reference_size(width: int, height: int) -> tuple[int, int]:
    """The image size of the same proportions that has 320 x 240 pixels."""
    scale = (REFERENCE_PIXELS / (width * height)) ** 0.5
    return max(1, round(width * scale)), max(1, round(height * scale))


def look(
    objects: tuple[SceneObject, ...], camera: Camera, world: World, width: int, height: int
) -> View:
    """What `camera` sees of `objects`, which must all be rendered and must not overlap."""
    ids = np.full((height, width), -1, dtype=np.int16)
    if not objects:
        nothing = np.zeros(0, dtype=np.int64)
        return View(ids, nothing, nothing)
    top, left, right = _spans(objects, camera, world, width, height)
    columns = np.arange(width)
    for k in draw_order(objects, camera, world):
        rows = left[k].size
        first = int(left[k].min(initial=width))
        last = int(right[k].max(initial=0))
        if rows and first < last:
            part = columns[first:last]
            inside = (part >= left[k][:, None]) & (part < right[k][:, None])
            ids[top[k] : top[k] + rows, first:last][inside] = k
    count = len(objects)
    pixels = np.bincount(ids.ravel() + 1, minlength=count + 1)[1:]
    unoccluded = np.array([int(np.maximum(b - a, 0).sum()) for a, b in zip(left, right, strict=True)])
    return View(ids, pixels, unoccluded)


def draw_order(objects: tuple[SceneObject, ...], camera: Camera, world: World) -> list[int]:
    """An order in which no object hides a later one.

    The power of the camera's ground point with respect to a base circle is its squared distance
    from the centre minus the squared radius. Where two disjoint circles have equal power they are
    separated by a line; the camera lies on the side of the circle with the smaller power, which
    therefore cannot be hidden by the other.
    """
    x, y, _ = camera.position
    power = [(o.x - x) ** 2 + (o.y - y) ** 2 - o.radius(world) ** 2 for o in objects]
    return sorted(range(len(objects)), key=lambda k: -power[k])


def _spans(
    objects: tuple[SceneObject, ...], camera: Camera, world: World, width: int, height: int
) -> tuple[list[int], list[Integers], list[Integers]]:
    """First row, and for every row the first and one past the last column, of each silhouette."""
    support, directions = _support(objects, camera, world, width)
    cx, cy = width / 2, height / 2
    # The rows come from the supports straight up and down, which every direction set holds.
    lowest = np.clip(np.ceil(cy - support[:, 1] - 0.5), 0, height).astype(int)
    highest = np.clip(np.floor(cy + support[:, 0] - 0.5) + 1, 0, height).astype(int)
    rows = max(int((highest - lowest).max()), 0)
    y = lowest[:, None] + np.arange(rows) + 0.5 - cy  # (n, rows)
    dx, dy = directions[:, 2:, 0], directions[:, 2:, 1]
    sure = np.where(np.abs(dx) > 1e-9, dx, np.inf)
    x = (support[:, None, 2:] - y[:, :, None] * dy[:, None, :]) / sure[:, None, :]
    rightward = dx[:, None, :] > 1e-9
    leftward = dx[:, None, :] < -1e-9
    right = np.where(rightward, x, np.inf).min(axis=2)
    left = np.where(leftward, x, -np.inf).max(axis=2)
    first = np.clip(np.ceil(cx + left - 0.5), 0, width).astype(int)
    last = np.clip(np.floor(cx + right - 0.5) + 1, 0, width).astype(int)
    sizes = np.maximum(highest - lowest, 0)
    return (
        lowest.tolist(),
        [first[k, : sizes[k]] for k in range(len(objects))],
        [last[k, : sizes[k]] for k in range(len(objects))],
    )


def _support(
    objects: tuple[SceneObject, ...], camera: Camera, world: World, width: int
) -> tuple[Floats, Floats]:
    """How far each silhouette reaches in a set of image directions.

    Returns:
        support: pixels from the principal point. Shape: (n, directions).
        directions: unit vectors; the first two point down and up. Shape: (n, directions, 2).
    """
    matrix = camera.world_to_camera()
    focal = camera.intrinsics(width, 1)[0, 0]
    support = np.empty((len(objects), _DIRECTIONS + 2))
    directions = np.empty((len(objects), _DIRECTIONS + 2, 2))
    for name in sorted({o.shape for o in objects}):
        members = [k for k, o in enumerate(objects) if o.shape == name]
        shape = world.shapes[name]
        centres, radius = balls(shape)
        scale = np.array([objects[k].radius(world) for k in members])
        turn = np.array([objects[k].rotation for k in members])
        place = np.array([objects[k].center(world) for k in members])
        cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
        x, y, z = centres.T
        points = np.stack([x * cos - y * sin, x * sin + y * cos, np.broadcast_to(z, (len(members), len(z)))], axis=2)
        points = points * scale[:, None, None] + place[:, None, :]
        local = points @ matrix[:3, :3].T + matrix[:3, 3]
        d = _directions(shape, local)
        directions[members] = d
        support[members] = _ball_support(local, radius * scale, d, focal)
    return support, directions


def _ball_support(local: Floats, radius: Floats, directions: Floats, focal: float) -> Floats:
    """The largest projection on each direction of balls seen in perspective.

    A ball touches the plane through the camera with normal (f d, -h) where
    f d.c - h c_z + R sqrt(f^2 + h^2) = 0; solved for h. Shapes: (n, balls, 3), (n,), (n, m, 2) to
    (n, m).
    """
    depth = local[:, :, 2, None]
    along = local[:, :, :2] @ directions.transpose(0, 2, 1)
    r = radius[:, None, None]
    space = depth**2 - r**2
    reach = focal * (along * depth + r * np.sqrt(along**2 + space)) / space
    return reach.max(axis=1)


def _directions(shape: Shape, local: Floats) -> Floats:
    """The directions in which a silhouette is measured. Shape: (n, directions + 2, 2).

    Solids with few corners have straight outlines: the normals of all lines through two corners
    contain those of every edge, which makes the spans exact. Round ones take even directions.
    """
    count, corners = local.shape[:2]
    pairs = corners * (corners - 1)
    if not 0 < pairs <= _DIRECTIONS - 8:
        return np.broadcast_to(_even_directions(_DIRECTIONS), (count, _DIRECTIONS + 2, 2))
    a, b = np.triu_indices(corners, 1)
    pixels = local[:, :, :2] / local[:, :, 2:]
    edge = pixels[:, b] - pixels[:, a]
    normal = np.stack([-edge[..., 1], edge[..., 0]], axis=-1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    even = np.broadcast_to(
        _even_directions(_DIRECTIONS - pairs), (count, _DIRECTIONS - pairs + 2, 2)
    )
    return np.concatenate([even, normal, -normal], axis=1)


@lru_cache
def _even_directions(count: int) -> Floats:
    angle = 2 * np.pi * (np.arange(count) + 0.5) / count
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([[[0.0, 1.0], [0.0, -1.0]], circle])

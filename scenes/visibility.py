"""What a camera sees of each object, computed without rendering.

Every solid is convex and stands inside a vertical cylinder, and no two cylinders touch. Two facts
make visibility exact and cheap. The silhouette of a convex solid is convex, so an image row meets
it in one span. And of two objects, the one that cannot hide the other follows from the camera's
position on the ground alone (`draw_order`), so painting back to front needs no depth buffer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.shapes import balls
from star_tvr.scenes.states import SceneObject
from star_tvr.scenes.world import World

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

REFERENCE_PIXELS = 320 * 240
"""Pixel thresholds are counted in an image of this size (TRANCE)."""

_EVEN = 32
"""Silhouettes are measured in twice as many directions, half of them facing right."""

_FEW_CORNERS = 8
"""Solids with at most so many corners have every edge measured; it takes 28 directions a side."""


@dataclass(frozen=True)
class Raster:
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


@dataclass(frozen=True)
class Silhouette:
    """The outline of one object alone, clipped to the image.

    Attributes:
        top: first row.
        left, right: first column and one past the last one, for every row. Shape: (rows,).
    """

    top: int
    left: Integers
    right: Integers

    @property
    def pixels(self) -> int:
        """How many pixel centres it covers."""
        return int((self.right - self.left).sum())

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1), x1 and y1 excluded; empty boxes have x1 <= x0."""
        if not self.left.size:
            return (0, self.top, 0, self.top)
        return (
            int(self.left.min()),
            self.top,
            int(self.right.max()),
            self.top + self.left.size,
        )

    def inside(self, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
        """Which pixels of a part of the image it covers. Shape: (y1 - y0, x1 - x0).

        The part must not reach beyond the silhouette's rows.
        """
        rows = slice(y0 - self.top, y1 - self.top)
        columns = np.arange(x0, x1)
        return (columns >= self.left[rows, None]) & (columns < self.right[rows, None])


def reference_size(width: int, height: int) -> tuple[int, int]:
    """The image size of the same proportions that has 320 x 240 pixels."""
    scale = (REFERENCE_PIXELS / (width * height)) ** 0.5
    return max(1, round(width * scale)), max(1, round(height * scale))


def rasterize(
    objects: tuple[SceneObject, ...], camera: Camera, world: World, width: int, height: int
) -> Raster:
    """What `camera` sees of `objects`, which must all be rendered and must not overlap."""
    (outlines,) = silhouettes([(objects, camera)], world, width, height)
    ids = np.full((height, width), -1, dtype=np.int16)
    for k in draw_order(objects, camera, world):
        x0, y0, x1, y1 = outlines[k].box
        if x0 < x1:
            ids[y0:y1, x0:x1][outlines[k].inside(x0, y0, x1, y1)] = k
    pixels = np.bincount(ids.ravel() + 1, minlength=len(objects) + 1)[1:]
    return Raster(ids, pixels, np.array([o.pixels for o in outlines], dtype=np.int64))


def visible_pixels(target: int, outlines: list[Silhouette], order: list[int]) -> int:
    """Visible pixels of one object: as `rasterize` counts them, without drawing the others.

    Args:
        target: position of the object in `outlines`.
        outlines: all silhouettes of the view.
        order: their `draw_order`.
    """
    own = outlines[target]
    x0, y0, x1, y1 = own.box
    hiding = [
        outlines[k]
        for k in order[order.index(target) + 1 :]
        if outlines[k].box[0] < x1
        and outlines[k].box[2] > x0
        and outlines[k].box[1] < y1
        and outlines[k].box[3] > y0
    ]
    if not hiding:
        return own.pixels
    shown = own.inside(x0, y0, x1, y1)
    for other in hiding:
        a0, b0, a1, b1 = other.box
        a0, b0, a1, b1 = max(a0, x0), max(b0, y0), min(a1, x1), min(b1, y1)
        shown[b0 - y0 : b1 - y0, a0 - x0 : a1 - x0] &= ~other.inside(a0, b0, a1, b1)
    return int(shown.sum())


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


def silhouettes(
    views: Sequence[tuple[tuple[SceneObject, ...], Camera]], world: World, width: int, height: int
) -> list[list[Silhouette]]:
    """The outlines of every object of every view, computed together for speed."""
    flat = [(o, camera) for objects, camera in views for o in objects]
    if not flat:
        return [[] for _ in views]
    support, directions = _support(flat, world, width)
    cx, cy = width / 2, height / 2
    up, down = support[:, 0], support[:, _EVEN]
    lowest = np.clip(np.ceil(cy - up - 0.5), 0, height).astype(int)
    highest = np.clip(np.floor(cy + down - 0.5) + 1, 0, height).astype(int)
    sizes = np.maximum(highest - lowest, 0)
    # A line that touches an outline meets row y at x = (support - y dy) / dx. Those that face
    # right bound it on the right, those that face left on the left; level ones bound nothing.
    reach, slope = _lines(support[:, 1:_EVEN], directions[:, 1:_EVEN])
    opposite = directions[:, _EVEN + 1 :] * (-1.0, 1.0)
    reach_left, slope_left = _lines(support[:, _EVEN + 1 :], opposite)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    owner = np.repeat(np.arange(len(flat)), sizes)
    y = np.arange(starts[-1]) - starts[owner] + lowest[owner] + (0.5 - cy)
    right = (reach[owner] - y[:, None] * slope[owner]).min(axis=1)
    left = -(reach_left[owner] - y[:, None] * slope_left[owner]).min(axis=1)
    first = np.clip(np.ceil(cx + left - 0.5), 0, width).astype(int)
    last = np.maximum(np.clip(np.floor(cx + right - 0.5) + 1, 0, width).astype(int), first)
    outlines = iter(
        Silhouette(
            int(lowest[k]), first[starts[k] : starts[k + 1]], last[starts[k] : starts[k + 1]]
        )
        for k in range(len(flat))
    )
    return [[next(outlines) for _ in objects] for objects, _ in views]


def _lines(support: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Lines that face right as x = reach - y slope; the others get an infinite reach."""
    dx, dy = directions[..., 0], directions[..., 1]
    bounding = dx > 1e-9
    inverse = 1.0 / np.where(bounding, dx, 1.0)
    return np.where(bounding, support * inverse, np.inf), np.where(bounding, dy * inverse, 0.0)


def _support(
    flat: list[tuple[SceneObject, Camera]], world: World, width: int
) -> tuple[Floats, Floats]:
    """How far each silhouette reaches in a set of image directions.

    Returns:
        support: pixels from the principal point. Shape: (n, 2 * _EVEN).
        directions: unit vectors: straight up, those that face right, straight down, those that
            face left. Shape: (n, 2 * _EVEN, 2).
    """
    matrices = {c: c.world_to_camera() for c in dict.fromkeys(camera for _, camera in flat)}
    support = np.empty((len(flat), 2 * _EVEN))
    directions = np.empty((len(flat), 2 * _EVEN, 2))
    for name in sorted({o.shape for o, _ in flat}):
        members = [k for k, (o, _) in enumerate(flat) if o.shape == name]
        centres, radius = balls(world.shapes[name])
        objects = [flat[k][0] for k in members]
        scale = np.array([o.radius(world) for o in objects])
        turn = np.array([o.rotation for o in objects])
        place = np.array([o.center(world) for o in objects])
        to_camera = np.array([matrices[flat[k][1]] for k in members])
        focal = np.array([flat[k][1].intrinsics(width, 1)[0, 0] for k in members])
        cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
        x, y, z = centres.T
        upright = np.broadcast_to(z, (len(members), len(z)))
        points = np.stack([x * cos - y * sin, x * sin + y * cos, upright], axis=2)
        points = points * scale[:, None, None] + place[:, None, :]
        local = points @ to_camera[:, :3, :3].transpose(0, 2, 1) + to_camera[:, None, :3, 3]
        corners = len(centres)
        fit = _edges_of_corners if 1 < corners <= _FEW_CORNERS else _fitted_edges
        directions[members], support[members] = fit(local, radius * scale, focal)
    return support, directions


def _edges_of_corners(local: Floats, radius: Floats, focal: Floats) -> tuple[Floats, Floats]:
    """Directions and supports of solids with few corners; every straight edge is exact.

    The normals of all lines through two corners contain those of the edges.
    """
    a, b = np.triu_indices(local.shape[1], 1)
    pixels = local[:, :, :2] / local[:, :, 2:]
    edge = pixels[:, b] - pixels[:, a]
    normal = np.stack([-edge[..., 1], edge[..., 0]], axis=2)
    normal /= np.maximum(np.sqrt((normal**2).sum(axis=2, keepdims=True)), 1e-12)
    normal *= np.where(normal[..., :1] < 0, -1.0, 1.0)
    even = _even_directions(_EVEN - len(a))[: _EVEN - len(a)]
    right = np.concatenate([np.broadcast_to(even, (len(local), *even.shape)), normal], axis=1)
    directions = np.concatenate([right, -right], axis=1)
    return directions, _ball_support(local, radius, directions, focal)[0]


def _fitted_edges(local: Floats, radius: Floats, focal: Floats) -> tuple[Floats, Floats]:
    """Directions and supports of round solids.

    Even directions are measured first. Between each two of them one more is fitted: the normal of
    the line from the corner furthest along the one to the corner furthest along the other, so that
    straight edges are met; or the middle of the two, where that is the same corner.
    """
    even = np.broadcast_to(_even_directions(_EVEN // 2), (len(local), _EVEN, 2))
    measured, corner = _ball_support(local, radius, even, focal)
    pixels = local[:, :, :2] / local[:, :, 2:]
    ends = np.take_along_axis(pixels, corner[:, :, None], axis=1)
    edge = np.roll(ends, -1, axis=1) - ends
    length = np.sqrt((edge**2).sum(axis=2, keepdims=True))
    normal = np.stack([edge[..., 1], -edge[..., 0]], axis=2) / np.maximum(length, 1e-12)
    fitted = np.where(length > 1e-9, normal, _even_directions(_EVEN)[1::2])
    directions = np.stack([even, fitted], axis=2).reshape(len(local), 2 * _EVEN, 2)
    between = _ball_support(local, radius, fitted, focal)[0]
    return directions, np.stack([measured, between], axis=2).reshape(len(local), 2 * _EVEN)


def _ball_support(
    local: Floats, radius: Floats, directions: Floats, focal: Floats
) -> tuple[Floats, Integers]:
    """The largest projection on each direction of balls seen in perspective, and whose it is.

    A ball touches the plane through the camera with normal (f d, -h) where
    f d.c - h c_z + R sqrt(f^2 + h^2) = 0; solved for h. Which of several small balls reaches
    furthest is told by their centres. Shapes: (n, balls, 3), (n,), (n, m, 2), (n,) to (n, m) twice.
    """
    r = radius[:, None]
    along = local[:, :, :2] @ directions.transpose(0, 2, 1)  # (n, balls, m)
    furthest = ((along + r[:, :, None]) / local[:, :, 2, None]).argmax(axis=1)
    depth = np.take_along_axis(local[:, :, 2], furthest, axis=1)
    along = np.take_along_axis(along, furthest[:, None, :], axis=1)[:, 0]
    space = depth**2 - r**2
    reach = focal[:, None] * (along * depth + r * np.sqrt(along**2 + space)) / space
    return reach, furthest


@lru_cache
def _even_directions(half: int) -> Floats:
    """Even directions, clockwise from straight up. Shape: (2 * half, 2)."""
    angle = np.pi * np.arange(2 * half) / half - np.pi / 2
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)

"""Solids: closed, outward, of radius 1, and the same surface for renderer and visibility test."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_tvr.scenes.shapes import Shape, balls, mesh
from star_tvr.schemas.config import load_config

STANDARD = load_config("trance").world.shapes
CONE = Shape(kind="prism", sides=64, height=2.0, top=0.0)
PYRAMID = Shape(kind="prism", sides=4, height=1.4, top=0.2)
SOLIDS = [*STANDARD.values(), CONE, PYRAMID, Shape(kind="prism", sides=3, height=1.5, bevel=0.1)]

prisms = st.builds(
    Shape,
    kind=st.just("prism"),
    sides=st.integers(3, 80),
    height=st.floats(0.7, 3),
    top=st.floats(0, 1),
    bevel=st.floats(0.005, 0.2),
)


def check_closed(surface):
    """Every edge is used as often one way as the other; vertices in one place count as one."""
    _, name = np.unique(surface.vertices.round(9), axis=0, return_inverse=True)
    edges = Counter(
        (int(name[a]), int(name[b]))
        for face in surface.faces
        for a, b in zip(face, face[1:] + face[:1], strict=True)
        if name[a] != name[b]
    )
    assert all(edges[b, a] == count for (a, b), count in list(edges.items()))


def triangles(surface):
    """Corners of the fans of all faces. Shape: (n, 3, 3)."""
    corners = [(f[0], f[k], f[k + 1]) for f in surface.faces for k in range(1, len(f) - 1)]
    return surface.vertices[np.array(corners)]


def check_outward(surface):
    a, b, c = triangles(surface).transpose(1, 0, 2)
    normal, middle = np.cross(b - a, c - a), (a + b + c) / 3
    assert ((normal * middle).sum(axis=1) > -1e-9).all()
    assert (normal * middle).sum() / 6 > 0.05  # the volume
    assert np.linalg.norm(surface.normals, axis=1) == pytest.approx(np.ones(len(surface.normals)))


def check_size(surface, shape):
    x, y, z = surface.vertices.T
    assert np.hypot(x, y).max() <= 1 + 1e-9
    assert np.hypot(x, y).max() > 0.75
    assert abs(z).max() == pytest.approx(shape.half_height, abs=1e-9)
    assert z.min() == pytest.approx(-shape.half_height, abs=1e-9)


def check_same_surface(surface, shape):
    """The hull of the balls reaches as far as the mesh, in every direction."""
    centres, radius = balls(shape)
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(300, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    of_mesh = (surface.vertices @ directions.T).max(axis=0)
    of_balls = (centres @ directions.T).max(axis=0) + radius
    assert (of_mesh <= of_balls + 1e-9).all()
    assert of_mesh == pytest.approx(of_balls, abs=0.02)


@pytest.mark.parametrize("shape", SOLIDS, ids=lambda s: f"{s.kind}-{s.sides}-{s.top}")
def test_solids(shape):
    surface = mesh(shape)
    check_closed(surface)
    check_outward(surface)
    check_size(surface, shape)
    check_same_surface(surface, shape)


@settings(max_examples=40)
@given(prisms)
def test_any_prism(shape):
    surface = mesh(shape)
    check_closed(surface)
    check_outward(surface)
    assert np.hypot(*surface.vertices[:, :2].T).max() <= 1 + 1e-9
    check_same_surface(surface, shape)


def test_shapes_of_one_size_share_their_radius():
    for shape in STANDARD.values():
        reach = np.hypot(*mesh(shape).vertices[:, :2].T).max()
        assert reach == pytest.approx(1, abs=0.04)  # rounded corners lie slightly inside
    assert STANDARD["cube"].height == pytest.approx(2**0.5)

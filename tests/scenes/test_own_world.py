"""A colour, shape, size or material more is a line of YAML, never code."""

import pytest

from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.transformations import parse_transformation
from star_tvr.schemas.config import load_config

OWN = """
preset: star
world:
  shapes:
    cone: {kind: prism, sides: 64, height: 2.0, top: 0.0, bevel: 0.04}
    sphere: null
  colors: {orange: [255, 140, 0], gray: null}
  materials: {velvet-rough: {roughness: 1.0}}
  sizes: {tiny: 0.25}
visibility: {min_pixels: 60}
"""


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "fruit.yaml"
    path.write_text(OWN)
    return Sampler.from_config(load_config(path))


def test_the_vocabulary(sampler):
    assert sampler.world.values("shape") == ("cube", "cylinder", "cone")
    assert sampler.world.colors["orange"] == (255, 140, 0)
    assert "gray" not in sampler.world.colors
    assert sampler.config.preset == "fruit"


def test_plans_use_it(sampler):
    plans = [sampler.plan(i) for i in range(120)]
    objects = [o for p in plans for o in p.initial]
    values = {t.value for p in plans for t in p.transformations}
    assert {o.shape for o in objects} == {"cube", "cylinder", "cone"}
    assert {o.color for o in objects} == set(sampler.world.colors)
    assert {"cone", "orange", "velvet-rough", "tiny"} <= values
    assert not values & {"sphere", "gray"}
    for change in (t for p in plans for t in p.transformations):
        assert parse_transformation(str(change)) == change


def test_directions_are_data(tmp_path):
    path = tmp_path / "trance-axes.yaml"
    path.write_text("preset: trance\nworld: {directions: {front: [-1, 0], behind: [1, 0]}}\n")
    directions = Sampler.from_config(load_config(path)).world.directions
    assert directions["front"] == (-1, 0)
    assert directions["left"] == (0, -1)

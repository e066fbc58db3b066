"""A sample that was planned, with labels computed from its geometry instead of rendered ones."""

import json

import numpy as np
import pytest

from star_tvr.generator.labels import image_labels
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.schemas.config import load_config
from star_tvr.schemas.records import Sample

RENDER = {
    "engine": "CYCLES",
    "device": "cpu",
    "samples": 1,
    "denoiser": None,
    "blender": "4.5.0",
    "seconds": 0.5,
}


@pytest.fixture(scope="session")
def make_sample():
    """A function of (preset, index) to a sample and its world."""

    def make(preset, index):
        sampler = Sampler.from_config(load_config(preset))
        return labelled(sampler.plan(index), sampler.world), sampler.world

    return make


def labelled(plan, world) -> Sample:
    """The sample of a plan, with labels computed from its geometry for pictures of 64 x 48."""
    images = []
    for state_name, name in plan.views:
        state, camera = plan.state(state_name, world), plan.cameras[name]
        objects = visible_objects(state, world)
        ids = rasterize(objects, camera, world, 64, 48).ids
        mask = np.array([0, *(o.index + 1 for o in objects)], np.uint8)[ids + 1]
        images.append(image_labels(mask, state_name, state, name, camera, world, True))
    return Sample(plan, tuple(images), RENDER)


@pytest.fixture
def document(make_sample):
    """A correct `sample.json`, as it is read from disk."""
    sample, world = make_sample("trance", 3)
    return json.loads(json.dumps(sample.to_json(world)))

"""A plan depends on the configuration, the seed and its number, and on nothing else."""

import os
import random
import subprocess
import sys

import pytest

from star_tvr.scenes.errors import ConfigError, PlanError
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config

PRESETS = ("star", "trance", "random-view")


def make(preset="star", *overrides):
    return Sampler.from_config(load_config(preset, overrides))


@pytest.mark.parametrize("preset", PRESETS)
def test_order_and_number_of_samples_do_not_matter(preset):
    first = {i: make(preset, "num_samples=20").plan(i) for i in range(20)}
    order = list(range(20))
    random.Random(1).shuffle(order)
    other = make(preset, "num_samples=5000")
    assert {i: other.plan(i) for i in order} == first


def test_far_samples_need_no_earlier_ones():
    assert make().plan(499_999).id == "499999"
    assert make().plan(1_234_567).id == "1234567"


HASH = """
import hashlib
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config
sampler = Sampler.from_config(load_config("trance"))
print(hashlib.sha256(repr([sampler.plan(i) for i in range(10)]).encode()).hexdigest())
"""


def test_processes_agree():
    def run(seed):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", HASH]
        return subprocess.run(command, env=environment, check=True, capture_output=True).stdout

    assert run("1") == run("2")


def test_seeds_and_samples_differ():
    plans = [make("star", f"seed={s}").plan(i) for s in range(3) for i in range(10)]
    assert len({p.seed for p in plans}) == 30
    assert len({p.initial for p in plans}) == 30


def test_the_image_size_does_not_change_the_scene():
    small, large = make("star", "image.width=64", "image.height=48"), make("star")
    assert all(small.plan(i) == large.plan(i) for i in range(5))


def test_unlucky_samples_end_with_the_hardest_rule():
    sampler = make("star", "visibility.min_pixels=60000", "tries=5")
    with pytest.raises(PlanError, match="sample 000000.*5 tries.*observable 5 times"):
        sampler.plan(0)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["objects.visible=200"], "objects.visible"),
        (["objects.visible=1", "transformations.count=5"], "transformations.count"),
    ],
)
def test_impossible_scenes_are_refused_before_planning(overrides, key):
    with pytest.raises(ConfigError, match=key):
        make("star", *overrides)


@pytest.mark.parametrize("kind", ["inner", "out", "in"])
def test_only_the_moves_asked_for(kind):
    sampler = make(
        "trance",
        f"transformations.moves=[{kind}]",
        "transformations.attributes=[position]",
        "transformations.count=1",
        "objects.visible=[1, 9]",
    )
    for index in range(20):
        plan = sampler.plan(index)
        (change,) = plan.transformations
        ends = tuple(s[change.object].visible(sampler.world) for s in (plan.initial, plan.final))
        assert ends == {"inner": (True, True), "out": (True, False), "in": (False, True)}[kind]


def test_ranges_are_kept():
    sampler = make(
        "trance", "objects.total=[6, 8]", "objects.visible=[3, 4]", "transformations.count=[2, 3]"
    )
    plans = [sampler.plan(i) for i in range(24)]
    visible = [sum(o.visible(sampler.world) for o in p.initial) for p in plans]
    assert set(visible) == {3, 4}
    assert {len(p.initial) for p in plans} == {6, 7, 8}
    assert {len(p.transformations) for p in plans} == {2, 3}


def test_views_on_a_shell_keep_their_ranges():
    sampler = make(
        "random-view",
        "cameras.shell.angle=[30, 60]",
        "cameras.shell.elevation=[25, 50]",
        "cameras.shell.distance=[11, 12]",
        "cameras.shell.focal_length=[30, 40]",
    )
    for index in range(20):
        cameras = sampler.plan(index).cameras
        first, second = (cameras[k].offset for k in ("view-0", "view-1"))
        for camera in cameras.values():
            assert 25 <= camera.elevation <= 50 and 11 <= camera.distance <= 12
            assert 30 <= camera.focal_length <= 40
        cosine = first @ second / (first @ first * (second @ second)) ** 0.5
        assert 0.5 - 1e-6 <= cosine <= 0.75**0.5 + 1e-6

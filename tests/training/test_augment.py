"""Varied samples are right: what they say agrees with the scene, the labels and the pixels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageOps

from star_tvr.generator.frames import render_frame
from star_tvr.generator.labels import image_labels
from star_tvr.generator.stage import Stage
from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.transformations import Transformation, replay
from star_tvr.schemas.config import load_config
from star_tvr.schemas.records import Pair, Sample
from star_tvr.training.augment import check_directions, mirror, renumber, reverse
from star_tvr.training.config import PromptConfig, RowsConfig, TraceConfig
from star_tvr.training.pairs import choose_pairs
from star_tvr.training.rows import RowReader
from star_tvr.training.trace_checker import check_trace
from tests.schemas.conftest import labelled
from tests.training.discs import TRAIN

COMPACT = PromptConfig(style="compact", location="cell")
PRESETS = ("trance", "event", "random-view", "proof")


@pytest.fixture(scope="module")
def samplers():
    return {name: Sampler.from_config(load_config(name)) for name in PRESETS}


def draw(samplers, data):
    """Some sample and its world."""
    sampler = samplers[data.draw(st.sampled_from(PRESETS))]
    return labelled(sampler.plan(data.draw(st.integers(0, 500))), sampler.world), sampler.world


def assert_same_labels(images, expected):
    """Equal but for roundings and for pixels that lie on the edge of an outline."""
    for image, other in zip(images, expected, strict=True):
        assert (image.state, image.camera) == (other.state, other.camera)
        assert image.relations == other.relations
        for a, b in zip(image.objects, other.objects, strict=True):
            assert a.index == b.index
            assert a.center == pytest.approx(b.center, abs=0.01)
            assert a.depth == pytest.approx(b.depth, abs=1e-4)
            assert a.pixels == pytest.approx(b.pixels, abs=4 + 0.1 * b.pixels)
            if a.bbox and b.bbox and min(a.pixels, b.pixels) > 20:
                assert np.abs(np.subtract(a.bbox, b.bbox)).max() <= 2


@given(st.data())
def test_a_mirrored_sample_is_what_the_mirrored_plan_shows(samplers, data):
    sample, world = draw(samplers, data)
    mirrored = mirror(sample, world)
    plan = mirrored.plan
    assert_same_labels(mirrored.images, labelled(plan, world).images)
    final = plan.states(world)[-1]
    assert [(o.x, o.y) for o in final] == [(o.x, o.y) for o in plan.final]
    looks = [(o.color, o.shape, o.size, o.material) for o in final]
    assert looks == [(o.color, o.shape, o.size, o.material) for o in plan.final]
    assert mirror(mirrored, world) == sample


def test_a_flipped_picture_is_a_render_of_the_mirrored_scene():
    """Of the scene that the mirrored sample describes, after the moves that its answer states."""
    overrides = ("image.width=96", "image.height=72", "render.samples=16", "render.denoise=false")
    config = load_config("trance", overrides)
    sampler, stage = Sampler.from_config(config), Stage(config)
    world = sampler.world
    plan = next(
        plan
        for plan in map(sampler.plan, range(100))
        if any(t.value.startswith(("left", "right")) for t in plan.transformations)
        and sum(
            o.shape == "cube" and o.size != "small" for o in visible_objects(plan.initial, world)
        )
        > 1
    )

    def render(state, camera, lights):
        stage.light(lights)
        stage.point_camera(camera)
        stage.show(state)
        return render_frame(stage)

    frames = [render(plan.state(s, world), plan.cameras[c], plan.lights) for s, c in plan.views]
    images = [
        image_labels(frame.mask, s, plan.state(s, world), c, plan.cameras[c], world, True)
        for frame, (s, c) in zip(frames, plan.views, strict=True)
    ]
    mirrored = mirror(Sample(plan, tuple(images), {}), world)
    new = mirrored.plan
    ends = {"initial": new.initial, "final": replay(new.initial, new.transformations, world)[-1]}
    found = []
    for frame, (name, camera) in zip(frames, plan.views, strict=True):
        other = render(ends[name], new.cameras[camera], new.lights)
        assert differing(other.mask, frame.mask[:, ::-1]) <= 3  # where an edge meets a centre
        assert unlike(other.image, frame.image[:, ::-1]) < 3
        labels = other.mask, name, ends[name], camera, new.cameras[camera], world, True
        found.append(image_labels(*labels))
    assert_same_labels(mirrored.images, found)

    # What a wrong label would show is told from that: rotations, moves or lamps as they were.
    turned = tuple(replace(o, rotation=-o.rotation) for o in new.final)
    moved = replay(new.initial, plan.transformations, world)[-1]
    camera = next(camera for state, camera in plan.views if state == "final")
    right = render(new.final, new.cameras[camera], new.lights)
    for wrong in (turned, moved):
        assert differing(render(wrong, new.cameras[camera], new.lights).mask, right.mask) > 15
    assert unlike(render(new.final, new.cameras[camera], plan.lights).image, right.image) > 6


def differing(mask, other) -> int:
    """Number of pixels in which two masks differ."""
    return int((mask != other).sum())


def unlike(picture, other) -> float:
    """Mean difference of two pictures, 0 to 255, in means of 4 x 4 pixels, which hide noise."""
    height, width, _ = picture.shape
    difference = picture.astype(float) - other
    return float(np.abs(difference.reshape(height // 4, 4, width // 4, 4, 3).mean((1, 3))).mean())


@given(st.data())
def test_a_reversed_sample_leads_back(samplers, data):
    sample, world = draw(samplers, data)
    back = reverse(sample, world)
    assert back.plan.states(world)[-1] == back.plan.final == sample.plan.initial
    assert len(back.plan.transformations) == len(sample.plan.transformations)
    for t in back.plan.transformations:
        if t.attribute != "position":
            assert t.value != getattr(back.plan.initial[t.object], t.attribute)
    assert_same_labels(back.images, labelled(back.plan, world).images)
    assert reverse(back, world) == sample


@given(st.data())
def test_numbers_change_names_and_nothing_else(samplers, data):
    sample, world = draw(samplers, data)
    new = data.draw(st.permutations(range(len(sample.plan.initial))))
    other = renumber(sample, new)
    assert other.plan.states(world)[-1] == other.plan.final
    assert_same_labels(other.images, labelled(other.plan, world).images)
    undone = [new.index(k) for k in range(len(new))]
    assert renumber(other, undone) == sample


def test_an_attribute_that_changed_twice_is_undone_step_by_step(samplers):
    sampler = samplers["proof"]
    plan = sampler.plan(0)
    colors = [c for c in sampler.world.colors if c != plan.initial[0].color][:2]
    changes = tuple(Transformation(0, "color", color) for color in colors)
    final = replay(plan.initial, changes, sampler.world)[-1]
    twice = replace(plan, transformations=changes, final=final)
    back = reverse(labelled(twice, sampler.world), sampler.world).plan
    assert back.states(sampler.world)[-1] == back.final == plan.initial
    assert [t.value for t in back.transformations] == [colors[0], plan.initial[0].color]


def test_directions_without_an_opposite_are_refused(samplers):
    sampler = samplers["event"]
    moves = next(
        plan
        for plan in map(sampler.plan, range(100))
        if any(t.value.startswith(("left", "right")) for t in plan.transformations)
    )
    directions = {"left": (0, -1), "right": (0, 2), "behind": (-1, 0)}
    poor = load_config("event").world.model_copy(update={"directions": directions})
    sample = labelled(moves, sampler.world)
    for function, name in ((mirror, "mirror"), (reverse, "reverse")):
        with pytest.raises(ConfigError, match=rf"^rows.{name}: .*world.directions has nothing"):
            function(sample, poor)
        with pytest.raises(ConfigError, match=rf"^rows.{name}: "):
            check_directions(poor, name == "mirror", name == "reverse")
    check_directions(sampler.world, True, True)


# --- In rows -----------------------------------------------------------------------------------


def varied(dataset, completion=None, seed=0, **rows):
    return RowReader(dataset, COMPACT, completion, RowsConfig(**rows), seed)


def test_numbers_agree_in_question_truth_and_reasoning(dataset):
    plain = RowReader(dataset, COMPACT)
    mixed = varied(dataset, TraceConfig(style="compact", boxes=True), seed=5, shuffle_objects=True)
    moved = 0
    for pair in choose_pairs(dataset, "cross-view/train", "all"):
        old, sample = plain.augmented(pair).sample, mixed.augmented(pair, 2).sample
        row, before = mixed.row(pair, 2), plain.row(pair)
        place = {(o.x, o.y): o.index for o in sample.plan.initial}
        new = [place[o.x, o.y] for o in old.plan.initial]
        moved += new != sorted(new)
        truths = [t.split(".") for t in before["truth"].split(", ")]
        assert row["truth"] == ", ".join(f"{new[int(i)]}.{a}.{v}" for i, a, v in truths)

        def lines(row):
            return row["prompt"][0]["content"][-1]["text"].splitlines()

        expected = [f"{new[int(line[0])]}{line[1:]}" for line in lines(before)]
        assert lines(row) == sorted(expected)
        [message] = row["completion"]
        report = check_trace(message["content"][0]["text"], mixed.facts(pair, 2))
        assert report.false == 0 and report.true > 3
        assert renumber(old, new) == sample
    assert moved > TRAIN


@pytest.mark.parametrize("style", ["compact", "attributes"])
def test_pictures_truth_and_reasoning_agree_however_varied(dataset, style):
    reader = varied(
        dataset, TraceConfig(style=style, boxes=style == "compact"), 1, mirror=True, reverse=True
    )
    seen = set()
    for pair in choose_pairs(dataset, "cross-view/train", "all"):
        sample = dataset.sample(pair.sample)
        for epoch in range(4):
            row, asked = reader.row(pair, epoch), reader.augmented(pair, epoch)
            truth = [str(t) for t in asked.sample.plan.transformations]
            assert row["truth"] == ", ".join(truth)
            backwards = not set(truth) <= {str(t) for t in sample.plan.transformations}
            stored = RowReader(dataset, COMPACT).row(pair)["images"]
            expected = stored[::-1] if backwards else stored
            if asked.mirrored:
                expected = [ImageOps.mirror(picture) for picture in expected]
            assert row["images"] == expected
            assert (row["sample"], row["initial"], row["final"]) == (
                pair.sample,
                pair.initial,
                pair.final,
            )
            [message] = row["completion"]
            report = check_trace(message["content"][0]["text"], reader.facts(pair, epoch))
            assert report.false == 0 and report.true >= 1
            seen.add((asked.mirrored, backwards))
    assert len(seen) == 4


def test_all_views_of_a_scene_are_varied_alike_in_an_epoch(dataset):
    reader = varied(dataset, shuffle_objects=True, mirror=True, reverse=True)
    views = [Pair("000001", "center", camera) for camera in ("left", "center", "right")]
    assert len({reader.row(pair, 3)["truth"] for pair in views}) == 1
    assert len({reader.row(views[0], epoch)["truth"] for epoch in range(10)}) > 1
    assert reader.row(views[0], 4)["truth"] == reader.row(views[0], 4)["truth"]

"""Whether `validate --pixels` sees what is wrong with pictures whose labels are all in order."""

import shutil

import numpy as np
import PIL.Image
import pytest

from star_tvr.generator.validate import validate
from star_tvr.schemas.dataset import Dataset
from tests.generator.command import ROUGH, render


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looks") / "good"
    sizes = ("image.width=96", "image.height=72", "objects.visible=[2, 4]")
    render(folder, "--num-samples", "6", overrides=(*sizes, *ROUGH))
    return folder


@pytest.fixture
def copy(good, tmp_path):
    return Dataset.open(shutil.copytree(good, tmp_path / "copy"))


def found(dataset):
    return [str(f) for _, findings in validate(dataset, pixels=True) for f in findings]


def path(dataset, sample, state, camera="center"):
    return dataset.folder(sample.id) / sample.image(state, camera).path


def recolor(dataset, sample, index, color, camera="center"):
    """Paint an object in the final image of the initial camera."""
    file = path(dataset, sample, "final", camera)
    mask = np.asarray(PIL.Image.open(file.with_suffix(".mask.png")))
    picture = np.array(PIL.Image.open(file))
    picture[mask == index + 1] = color
    PIL.Image.fromarray(picture).save(file)


def with_change(dataset, attribute):
    return next(
        (s, t)
        for s in dataset.samples()
        for t in s.plan.transformations
        if t.attribute == attribute
        and sum(u.object == t.object for u in s.plan.transformations) == 1
    )


def test_what_was_rendered_looks_right(good):
    assert found(Dataset.open(good)) == []


@pytest.mark.parametrize("attribute", ["color", "material"])
def test_a_change_that_cannot_be_seen(copy, attribute):
    sample, t = with_change(copy, attribute)
    before = np.array(PIL.Image.open(path(copy, sample, "initial")))
    after = np.array(PIL.Image.open(path(copy, sample, "final")))
    mask = np.asarray(PIL.Image.open(path(copy, sample, "final").with_suffix(".mask.png")))
    after[mask == t.object + 1] = before[mask == t.object + 1]
    PIL.Image.fromarray(after).save(path(copy, sample, "final"))
    assert any(
        f"{sample.id}: final-center: objects.{t.object}: was transformed, but looks" in line
        for line in found(copy)
    )


def test_a_change_that_nobody_named(copy):
    sample, index = next(
        (s, o.index)
        for s in copy.samples()
        for o in s.image("final", "center").objects
        if o.index not in {t.object for t in s.plan.transformations}
        and o.visibility == 1
        and s.image("initial", "center").objects[o.index].visibility == 1
        and o.pixels >= 60
    )
    recolor(copy, sample, index, (250, 120, 10))
    assert any(f"objects.{index}: was not transformed, but" in line for line in found(copy))


@pytest.mark.parametrize("camera", ["left", "center", "right"])
def test_a_color_that_is_not_the_one_named(copy, camera):
    sample, t = with_change(copy, "color")
    before = copy.world.colors[sample.plan.initial[t.object].color]
    wrong = tuple(
        2 * b - c if 0 <= 2 * b - c <= 255 else b
        for b, c in zip(before, copy.world.colors[t.value], strict=True)
    )
    recolor(copy, sample, t.object, wrong, camera)
    expected = f"final-{camera}: objects.{t.object}: should have turned {t.value}"
    assert any(expected in line for line in found(copy))


def test_workers_find_the_same(copy):
    sample, t = with_change(copy, "color")
    recolor(copy, sample, t.object, (0, 0, 0))
    alone = [(i, list(map(str, f))) for i, f in validate(copy, True, 1)]
    assert [(i, list(map(str, f))) for i, f in validate(copy, True, 2)] == alone
    assert any(findings for _, findings in alone)

"""Whether `validate --pixels` sees what is wrong with pictures whose labels are all in order."""

import shutil
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from star_tvr.generator.appearance import check_appearance
from star_tvr.generator.validate import validate
from star_tvr.schemas.dataset import Dataset
from tests.generator.command import ROUGH, render


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looks") / "good"
    sizes = ("image.width=96", "image.height=72", "objects.visible=[2, 4]")
    clear = (
        "transformations.count=[1, 2]",
        "world.sizes={small: null}",
        "visibility.min_pixels=600",
    )
    render(folder, "--num-samples", "10", overrides=(*sizes, *clear, *ROUGH))
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
    """The largest opaque object of which nothing changes but this attribute."""

    def pixels(change):
        sample, t = change
        image = sample.image("initial", "center")
        opaque = "glass" not in (sample.plan.initial[t.object].material, t.value)
        return opaque * next(o.pixels for o in image.objects if o.index == t.object)

    return max(
        (
            (s, t)
            for s in dataset.samples()
            for t in s.plan.transformations
            if t.attribute == attribute
            and sum(u.object == t.object for u in s.plan.transformations) == 1
        ),
        key=pixels,
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


def test_a_color_that_is_wrong_in_all_pictures_alike(copy):
    """Nothing changes in it, so only the palette can tell."""
    sample, index = next(
        (s, o.index)
        for s in copy.samples()
        for o in s.image("initial", "center").objects
        if o.index not in {t.object for t in s.plan.transformations} and o.pixels >= 60
    )
    red, green, blue = copy.world.colors[sample.plan.initial[index].color]
    for image in sample.images:
        file = path(copy, sample, image.state, image.camera)
        picture = np.array(PIL.Image.open(file))
        mask = np.asarray(PIL.Image.open(file.with_suffix(".mask.png")))
        picture[mask == index + 1] = (20, 200, 200) if red > blue else (200, 40, 30)
        PIL.Image.fromarray(picture).save(file)
    assert any(f"initial-center: objects.{index}: should be" in line for line in found(copy))


def test_a_shadow_over_a_whole_object_is_no_change(copy):
    """A neighbour that grew takes light from it: all its pixels are darker by one factor."""
    for sample in copy.samples():
        file = path(copy, sample, "final")
        mask = np.asarray(PIL.Image.open(file.with_suffix(".mask.png")))
        picture, before = (
            np.array(PIL.Image.open(file)),
            np.array(PIL.Image.open(path(copy, sample, "initial"))),
        )
        changed = [t.object + 1 for t in sample.plan.transformations]
        kept = (mask > 0) & ~np.isin(mask, changed)
        picture[kept] = (0.7 * before[kept]).astype(np.uint8)
        PIL.Image.fromarray(picture).save(file)
    assert found(copy) == []


def test_an_object_that_is_not_where_its_mask_is(copy):
    """The size changes, and the initial and the final picture are exchanged."""

    def pixels(sample, state, index):
        return next(o.pixels for o in sample.image(state, "center").objects if o.index == index)

    sample = next(
        s
        for s in copy.samples()
        for t in s.plan.transformations
        if t.attribute == "size"
        and s.plan.initial[t.object].color != "gray"
        and s.plan.initial[t.object].material != "glass"
        and abs(pixels(s, "initial", t.object) - pixels(s, "final", t.object)) > 80
    )
    first, second = path(copy, sample, "initial"), path(copy, sample, "final")
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other), second.write_bytes(one)
    assert any(line.startswith(f"{sample.id}: ") for line in found(copy))


def views(dataset, sample):
    """Picture and mask of every image."""
    return {
        (i.state, i.camera): tuple(
            np.array(PIL.Image.open(dataset.folder(sample.id) / name)) for name in (i.path, i.mask)
        )
        for i in sample.images
    }


def opaque_object(dataset):
    """The largest object that is opaque and keeps its look."""
    return max(
        (
            (sample, o)
            for sample in dataset.samples()
            for o in sample.plan.initial
            if o.material != "glass"
            and o.color not in ("gray", "yellow")
            and o.index not in {t.object for t in sample.plan.transformations}
        ),
        key=lambda so: min(
            v.pixels for i in so[0].images for v in i.objects if v.index == so[1].index
        ),
    )


def test_what_is_pale_in_all_pictures_is_not_opaque(good):
    dataset = Dataset.open(good)
    sample, obj = opaque_object(dataset)
    pictures = views(dataset, sample)
    for picture, mask in pictures.values():
        inside = mask == obj.index + 1
        picture[inside] = (0.6 * picture[inside] + 80).astype(np.uint8)
    found = dict(check_appearance(sample, dataset.world, pictures))
    for state in ("initial", "final"):
        assert "looks clear" in found[f"states.{state}.objects.{obj.index}.material"]


def test_what_is_seen_of_a_covered_object_can_all_lie_in_a_reflection(good):
    dataset = Dataset.open(good)
    sample, obj = opaque_object(dataset)
    pictures = views(dataset, sample)
    picture, mask = pictures["final", "center"]
    picture[mask == obj.index + 1] = (20, 200, 200) if obj.color != "cyan" else (200, 40, 30)
    assert list(check_appearance(sample, dataset.world, pictures))
    images = tuple(
        replace(i, objects=tuple(replace(v, visibility=0.4) for v in i.objects))
        for i in sample.images
    )
    covered = replace(sample, images=images)
    assert not list(check_appearance(covered, dataset.world, pictures))


def test_workers_find_the_same(copy):
    sample, t = with_change(copy, "color")
    recolor(copy, sample, t.object, (0, 0, 0))
    alone = [(i, list(map(str, f))) for i, f in validate(copy, True, 1)]
    assert [(i, list(map(str, f))) for i, f in validate(copy, True, 2)] == alone
    assert any(findings for _, findings in alone)

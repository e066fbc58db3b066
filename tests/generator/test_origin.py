"""Whether `validate` notices samples that are whole in themselves but not of this data set."""

import json
import shutil

import numpy as np
import PIL.Image
import pytest

from star_tvr.generator.validate import validate
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import Dataset, expected_views, sample_folder


def found(root):
    return [str(f) for _, findings in validate(Dataset.open(root), pixels=True) for f in findings]


def edit(root, change, sample="000002"):
    path = sample_folder(root, sample) / "sample.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.update(seed=1), "000002: seed: does not follow"),
        (lambda d: d.update(preset="view"), "000002: preset: is view, but the data set's is star"),
    ],
)
def test_another_data_set_s_sample(copy, change, expected):
    edit(copy, change)
    (line,) = found(copy)
    assert line.startswith(expected)


def test_a_view_left_out(copy):
    folder = sample_folder(copy, "000002")
    for name in ("final-left.png", "final-left.mask.png"):
        (folder / name).unlink()
    edit(copy, lambda d: d.update(images=[i for i in d["images"] if i["camera"] != "left"]))
    assert found(copy) == ["000002: images: final-left is missing"]


def test_labels_without_masks_are_checked_where_they_can_be(copy):
    def nonsense(document):
        for image in document["images"]:
            image["mask"] = None
            image["objects"][0]["center"] = [1.0, 1.0]
            image["relations"]["left"] = {}

    for mask in sample_folder(copy, "000002").glob("*.mask.png"):
        mask.unlink()
    edit(copy, nonsense)
    lines = found(copy)
    for view in ("initial-center", "final-left", "final-center", "final-right"):
        for field in ("mask: is missing", "objects.0.center", "relations: do not follow"):
            assert any(f"000002: {view}: {field}" in line for line in lines), field


def test_a_linked_folder(copy, tmp_path):
    folder = sample_folder(copy, "000002")
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert any("samples/00000/000002: is a link" in line for line in found(copy))


def test_one_number_in_two_places(copy):
    shutil.copytree(sample_folder(copy, "000002"), copy / "samples" / "00001" / "000002")
    (copy / "samples" / "00007").write_text("not a folder")
    lines = found(copy)
    assert any("samples/00001/000002: is not where a sample" in line for line in lines)
    assert any("samples/00007: is no folder" in line for line in lines)


@pytest.mark.parametrize("damage", ["jpeg", "no end", "bomb"])
def test_pictures_that_only_look_like_png(copy, damage):
    path = sample_folder(copy, "000002") / "final-left.png"
    if damage == "jpeg":
        PIL.Image.open(path).save(path, "JPEG")
    elif damage == "no end":
        path.write_bytes(path.read_bytes()[:-12])
    else:
        content = bytearray(path.read_bytes())
        content[16:24] = (60000).to_bytes(4, "big") * 2
        path.write_bytes(content)
    (line,) = found(copy)
    assert line.startswith("000002: final-left: final-left.png: cannot be decoded")


def test_objects_of_the_final_state_that_were_never_there(copy):
    edit(copy, lambda d: d["states"]["final"]["objects"].pop())
    assert any(line.startswith("000002: ") for line in found(copy))


def test_a_mask_shifted_with_its_labels(copy):
    """Labels that fit the mask do not help when the mask does not fit the geometry."""
    folder = sample_folder(copy, "000002")
    path = folder / "initial-center.mask.png"
    mask = np.roll(np.asarray(PIL.Image.open(path)), 6, axis=1)
    PIL.Image.fromarray(mask).save(path)

    def follow(document):
        for o in document["images"][0]["objects"]:
            rows, columns = np.nonzero(mask == o["index"] + 1)
            o["bbox"] = [
                int(columns.min()),
                int(rows.min()),
                int(columns.max()) + 1,
                int(rows.max()) + 1,
            ]
            o["pixels"] = len(rows)

    edit(copy, follow)
    assert any("mask and geometry overlap by" in line for line in found(copy))


@pytest.mark.parametrize("preset", ["star", "trance", "basic", "view", "random-view", "orbit"])
def test_expected_views_are_those_of_plans(preset):
    from star_tvr.scenes.sampler import Sampler

    config = load_config(preset)
    assert expected_views(config) == set(Sampler.from_config(config).plan(0).views)

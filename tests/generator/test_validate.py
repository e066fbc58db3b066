"""`tvr validate` names every kind of damage, and never falls over one."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from star_tvr.generator.labels import image_labels
from star_tvr.generator.validate import validate
from star_tvr.schemas.dataset import Dataset, dumps
from tests.generator.command import refused, tvr

SAMPLE = "000003"


def folder(root):
    return root / "samples" / "00000" / SAMPLE


def edit(root, change):
    """Let `change` alter the document of the sample."""
    path = folder(root) / "sample.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def write(pattern, replacement):
    """Replace a part of `sample.json` by text."""

    def change(root):
        path = folder(root) / "sample.json"
        path.write_text(re.sub(pattern, replacement, path.read_text(), count=1))

    return change


def picture(name, change):
    def damage(root):
        path = folder(root) / name
        pixels = np.asarray(PIL.Image.open(path)).copy()
        PIL.Image.fromarray(change(pixels)).save(path)

    return damage


def truncated(name):
    def damage(root):
        path = folder(root) / name
        path.write_bytes(path.read_bytes()[:150])

    return damage


def document(change):
    return lambda root: edit(root, change)


def assign(*path_and_value):
    *path, last, value = path_and_value

    def change(content):
        for key in path:
            content = content[key]
        content[last] = value

    return document(change)


def unlink(name):
    return lambda root: (folder(root) / name).unlink()


def pipe(name):
    def damage(root):
        unlink(name)(root)
        os.mkfifo(folder(root) / name)

    return damage


def link(root):
    path = folder(root) / "final-left.png"
    path.unlink()
    path.symlink_to("initial-center.png")


def without_image(content):
    content["images"] = [i for i in content["images"] if i["camera"] != "left"]


def swap_objects(content):
    objects = content["states"]["initial"]["objects"]
    objects[0], objects[1] = objects[1], objects[0]


FIRST = ("states", "initial", "objects", 0)
DAMAGE = {
    "truncated image": (truncated("initial-center.png"), "initial-center.png: cannot be decoded"),
    "truncated mask": (truncated("final-left.mask.png"), "final-left.mask.png: cannot be decoded"),
    "empty image": (
        lambda root: (folder(root) / "final-left.png").write_bytes(b""),
        "final-left.png: cannot be decoded",
    ),
    "text for an image": (
        lambda root: (folder(root) / "final-left.png").write_text("no image"),
        "final-left.png: cannot be decoded",
    ),
    "missing mask": (unlink("final-right.mask.png"), "final-right.mask.png: is missing"),
    "missing image": (unlink("final-right.png"), "final-right.png: is missing"),
    "missing document": (unlink("sample.json"), "sample.json: there is no such file"),
    "gray image": (picture("final-left.png", lambda a: a[..., 0]), "final-left.png: is L"),
    "small mask": (picture("final-left.mask.png", lambda a: a[:-2]), "final-left.mask.png: is L"),
    "unknown object in the mask": (
        picture("final-left.mask.png", lambda a: np.where(a == a.max(), 77, a).astype(np.uint8)),
        r"final-left.mask.png: holds \[77\]",
    ),
    "shifted mask": (
        picture("final-left.mask.png", lambda a: np.roll(a, 1, axis=1)),
        r"final-left: objects\.\d\.bbox",
    ),
    "a link": (link, "final-left.png: is a link"),
    "a stray file": (
        lambda root: (folder(root) / "notes.txt").write_text("x"),
        "notes.txt: is not mentioned",
    ),
    "an image left out": (document(without_image), "final-left"),
    "no JSON": (write(r"\{", ""), "not valid JSON"),
    "binary": (
        lambda root: (folder(root) / "sample.json").write_bytes(b"\xff\xfe\x00"),
        "cannot be read",
    ),
    "NaN": (write(r'"rotation": [\d.]+', '"rotation": NaN'), "NaN"),
    "infinity": (write(r'"depth": [\d.]+', '"depth": -Infinity'), "Infinity"),
    "overflow": (write(r'"depth": [\d.]+', '"depth": 1e999'), "sample.json|depth"),
    "wrong type": (assign(*FIRST, "rotation", "left"), r"states\.initial\.objects\.0\.rotation"),
    "extra field": (assign("colour", "red"), "colour: unknown key"),
    "missing field": (document(lambda d: d.pop("answer")), "answer"),
    "newer schema": (assign("schema_version", 99), "schema_version 99"),
    "a list": (lambda root: (folder(root) / "sample.json").write_text("[]"), "object"),
    "another id": (assign("id", "000001"), "id: is 000001"),
    "changed answer": (assign("answer", "0.color.red"), "answer"),
    "changed before": (assign("transformations", 0, "before", "teal"), "transformations"),
    "changed value": (assign("transformations", 0, "value", "teal"), "teal"),
    "unknown object": (assign("transformations", 0, "object", 99), "99"),
    "unknown shape": (assign(*FIRST, "shape", "torus"), "torus"),
    "unknown size": (assign(*FIRST, "size", "huge"), "huge"),
    "unknown colour": (assign(*FIRST, "color", "teal"), "states|final"),
    "moved object": (assign(*FIRST, "position", [5.0, 5.0, 0.3]), "final state|states"),
    "visible flag": (assign(*FIRST, "visible", False), "states"),
    "objects out of order": (document(swap_objects), "states|objects"),
    "moved camera": (assign("cameras", "left", "position", [9.0, 1.0, 6.0]), "cameras"),
    "camera at its target": (assign("cameras", "left", "position", [0.0, 0.0, 0.0]), "cameras"),
    "camera overhead": (assign("cameras", "left", "position", [0.0, 0.0, 9.0]), "cameras"),
    "unknown camera": (assign("images", 1, "camera", "top"), "top"),
    "box": (assign("images", 0, "objects", 0, "bbox", [0, 0, 1, 1]), r"objects\.0\.bbox"),
    "pixels": (assign("images", 0, "objects", 0, "pixels", 4), r"objects\.0\.pixels"),
    "visibility": (assign("images", 0, "objects", 0, "visibility", 0.123), r"\.visibility"),
    "centre": (assign("images", 0, "objects", 0, "center", [1.0, 1.0]), "center"),
    "depth": (assign("images", 0, "objects", 0, "depth", 1.0), "depth"),
    "relations": (assign("images", 0, "relations", "left", {"0": []}), "relations"),
    "image size": (assign("images", 0, "width", 65), "65|width"),
    "an image listed twice": (
        document(lambda d: d["images"].append(d["images"][0])),
        "images: the image initial-center is listed twice",
    ),
    "one file for two images": (
        document(lambda d: d["images"][1].update(path=d["images"][2]["path"])),
        r"images: the file final-\w+.png is listed twice",
    ),
    "a key twice": (write(r"\{", '{"id": "000003", '), "the key 'id' is there twice"),
    "a turned object": (
        document(lambda d: d["states"]["final"]["objects"][0].update(rotation=0.123)),
        "states.final.objects.0.rotation: is 0.123, and was",
    ),
    "a far lamp": (
        document(lambda d: next(iter(d["lights"].values()))["position"].__setitem__(0, 1e308)),
        r"lights.\w+.position.0: 1e\+308 is greater",
    ),
    "a bright lamp": (
        document(lambda d: next(iter(d["lights"].values())).update(power=1e308)),
        r"lights.\w+.power: 1e\+308 is greater",
    ),
    "a lamp taken out": (
        document(lambda d: d["lights"].pop("fill")),
        "lights: are 2, and the data set's configuration has 3",
    ),
    "a lamp added": (
        document(lambda d: d["lights"].update(extra=d["lights"]["key"])),
        "lights: are 4, and the data set's configuration has 3",
    ),
    "a lamp of another name": (
        document(lambda d: d["lights"].update(more=d["lights"].pop("fill"))),
        "lights: are not those of the configuration: fill, more",
    ),
    "a number of 401 digits": (write(r'"rotation": [\d.]+', '"rotation": 1' + "0" * 400), "digits"),
    "a number of 5000 digits": (write(r'"pixels": \d+', '"pixels": ' + "9" * 5000), "digits"),
    "20 digits": (write(r'"pixels": \d+', '"pixels": ' + "9" * 20), "pixels.*greater"),
    "an id with a line end": (assign("id", "000003\n"), "id: .*does not match"),
    "an id of 5000 digits": (assign("id", "1" * 5000), "sample.json: id: '1111"),
    "a name with a line end": (
        assign("images", 0, "path", "initial-center.png\n"),
        "images.0.path: .*does not match",
    ),
    "a step of 5000 digits": (
        assign("images", 0, "state", "step-" + "1" * 5000),
        "images.0.state: 'step-1111",
    ),
    "a linked document": (
        lambda root: (
            (folder(root) / "sample.json").rename(root.parent / "elsewhere.json"),
            (folder(root) / "sample.json").symlink_to(root.parent / "elsewhere.json"),
        ),
        "sample.json: is a link",
    ),
    "a pipe for a document": (
        pipe("sample.json"),
        "sample.json: cannot be read",
    ),
    "a pipe for a mask": (
        pipe("final-left.mask.png"),
        "final-left.mask.png: cannot be read",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_a_sample(copy, kind):
    damage, expected = DAMAGE[kind]
    damage(copy)
    found = {
        name: [str(f) for f in findings]
        for name, findings in validate(Dataset.open(copy))
        if findings
    }
    assert list(found) == [SAMPLE]
    assert re.search(expected, "\n".join(found[SAMPLE])), found


def split_lines(root, name, *pairs):
    path = root / "splits" / "cross-view" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("sample", "initial", "final")
    path.write_text("".join(json.dumps(dict(zip(keys, p, strict=True))) + "\n" for p in pairs))


SPLITS = {
    "an unknown sample": (("000099", "center", "center"), "000099.*is not in the data set"),
    "an unknown camera": (("000001", "center", "top"), "000001.*no image final-top"),
    "a leaking scene": (("000000", "center", "left"), "000000.*is also in cross-view/test_ood"),
    "no sample": (("1", "center", "center"), "sample"),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_damage_to_a_split(copy, kind):
    line, expected = SPLITS[kind]
    split_lines(copy, "test_ood", ("000000", "center", "right"))
    split_lines(copy, "train", line)
    done = tvr("validate", copy)
    assert done.returncode == 1
    assert re.search(expected, done.stdout), done.stdout
    assert "train" in done.stdout
    assert "Traceback" not in done.stderr


def everywhere(copy):
    """All findings of the command, which must come to its end."""
    done = tvr("validate", copy)
    assert done.returncode == 1 and "8 samples checked" in done.stdout, done
    assert "Traceback" not in done.stderr and "error" not in done.stderr
    return done.stdout


def test_lines_of_splits_that_are_missing_or_there_twice(copy):
    assert tvr("split", copy).returncode == 0
    assert tvr("validate", copy).returncode == 0
    folder = copy / "splits" / "cross-view"
    train = (folder / "train.jsonl").read_text().splitlines(keepends=True)
    rated = re.sub(r'("difficulty": )[0-9.]+', r"\g<1>0.999", train[0])
    (folder / "train.jsonl").write_text("".join([rated, *train[1:]]))
    assert re.search(r"cross-view/train: difficulty is 0.999, not 0.\d+", everywhere(copy))
    (folder / "train.jsonl").write_text("".join([*train[:-1], train[0]]))
    (folder / "val.jsonl").write_text("")
    (folder / "test_id.jsonl").unlink()
    found = everywhere(copy)
    assert "splits/cross-view/train: center to center is there twice" in found
    assert "splits/cross-view/val: is empty" in found
    assert "splits/cross-view/test_id: is missing" in found
    (folder / "train.jsonl").write_text("".join(train[:-1]))
    assert re.search(r"train: has \d+ pairs, and splits/cross-view/scheme.json", everywhere(copy))
    (folder / "scheme.json").write_text("[]")
    assert "scheme.json: has no pairs" in everywhere(copy)


def test_files_and_links_that_do_not_belong_there(copy, tmp_path):
    block = copy / "samples" / "00000"
    for name in ("²", "0²", "00000٣", "0", b"\xff1".decode("utf-8", "surrogateescape")):
        (block / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (copy / "splits").symlink_to(tmp_path / "elsewhere")
    (copy / "README.md").unlink()
    (copy / "README.md").symlink_to("/etc/hostname")
    (copy / "samples" / "00001").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(copy / "pipe")
    found = everywhere(copy)
    for line in ("00000/²", "00000/0²", "00000/00000٣", "00000/0", r"00000/\udcff1"):
        assert f"data set: samples/{line}: is no folder" in found
    for line in ("splits", "README.md", "samples/00001"):
        assert f"data set: {line}: is a link" in found
    assert "data set: pipe: is no ordinary file" in found


def test_a_linked_scheme_is_neither_deleted_nor_read(copy, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.jsonl").write_text("precious")
    (copy / "splits").mkdir()
    (copy / "splits" / "cross-view").symlink_to(tmp_path / "mine")
    assert "splits/cross-view: is a link" in refused("split", copy, status=1)
    assert (tmp_path / "mine" / "train.jsonl").read_text() == "precious"
    assert "data set: splits/cross-view: is a link" in everywhere(copy)


def test_a_split_that_is_no_json(copy):
    split_lines(copy, "train", ("000000", "center", "right"))
    path = copy / "splits/cross-view/train.jsonl"
    path.write_text(path.read_text() + "{\n")
    done = tvr("validate", copy)
    assert done.returncode == 1
    assert "line 2" in done.stdout and "1 findings" in done.stdout


@pytest.mark.parametrize("kind", ["truncated image", "NaN", "moved object", "unknown object"])
def test_the_command_names_sample_and_field(copy, kind):
    DAMAGE[kind][0](copy)
    done = tvr("validate", copy, "--pixels")
    assert done.returncode == 1
    assert all(line.startswith(SAMPLE) for line in done.stdout.splitlines()[:-1])
    assert "8 samples checked" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout + done.stderr


def test_findings_as_json(copy):
    DAMAGE["missing mask"][0](copy)
    done = tvr("validate", copy, "--json")
    (finding,) = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert finding["sample"] == SAMPLE
    assert set(finding) == {"sample", "field", "message"}


def test_pixels_that_belong_to_another_scene(copy):
    """Image and mask of another sample, with labels that fit them, do not fit the geometry."""
    dataset = Dataset.open(copy)
    sample, *others = sorted(dataset.samples(), key=lambda s: -len(s.plan.initial))
    before = sample.image("initial", "center")
    largest = max(others, key=lambda s: max(o.pixels for o in s.image("initial", "center").objects))
    for name in before.files:
        shutil.copy(dataset.folder(largest.id) / name, dataset.folder(sample.id) / name)
    mask = np.asarray(PIL.Image.open(dataset.folder(sample.id) / before.mask))
    camera = sample.plan.cameras["center"]
    labels = image_labels(
        mask, "initial", sample.plan.initial, "center", camera, dataset.world, True
    )
    images = tuple(labels if image == before else image for image in sample.images)
    document = replace(sample, images=images).to_json(dataset.world)
    (dataset.folder(sample.id) / "sample.json").write_text(dumps(document))
    assert tvr("validate", copy).returncode == 0
    done = tvr("validate", copy, "--pixels")
    assert done.returncode == 1
    assert re.search(
        rf"{sample.id}: initial-center: objects\.\d: mask and geometry overlap", done.stdout
    )


def test_a_missing_sample(copy):
    shutil.rmtree(folder(copy))
    done = tvr("validate", copy)
    assert done.returncode == 1
    assert "7 of 8" in done.stdout and "tvr render" in done.stdout


def test_the_same_scene_twice(copy):
    twin = copy / "samples/00000/000005"
    shutil.rmtree(twin)
    shutil.copytree(folder(copy), twin)
    path = twin / "sample.json"
    path.write_text(path.read_text().replace('"id": "000003"', '"id": "000005"'))
    done = tvr("validate", copy)
    assert done.returncode == 1
    assert re.search("000005: .*000003", done.stdout)


def test_folders_that_are_no_data_sets(tmp_path):
    assert "not a data set" in refused("validate", tmp_path, status=1)
    assert "not a data set" in refused("validate", tmp_path / "nothing", status=1)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"schema_version": 99}'])
def test_a_damaged_manifest(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    assert "dataset.json" in refused("validate", tmp_path, status=1)

"""`tvr import-trance`: small files in the published layouts become data sets that work."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import PIL.Image
import pytest

from star_tvr.generator.import_trance import prepare_import
from star_tvr.generator.validate import validate
from star_tvr.scenes.errors import ConfigError, DataError, ParameterError
from star_tvr.scenes.rules import same_state
from star_tvr.scenes.transformations import answer_text
from star_tvr.schemas.dataset import Dataset
from star_tvr.training.exports.export_dataset import export_dataset
from tests.generator.command import refused, tvr

WIDTH, HEIGHT = 160, 120
PROPERTIES: dict[str, Any] = {
    "shape": {"cube": "SmoothCube_v2", "sphere": "Sphere", "cylinder": "SmoothCylinder"},
    "color": {
        "gray": [87, 87, 87],
        "red": [173, 35, 35],
        "blue": [42, 75, 215],
        "green": [29, 105, 20],
        "brown": [129, 74, 25],
        "purple": [129, 38, 192],
        "cyan": [41, 208, 208],
        "yellow": [255, 238, 51],
    },
    "material": {"rubber": "Rubber", "metal": "Metal", "glass": "Glass"},
    "size": {"large": 0.9, "medium": 0.6, "small": 0.3},
    "position": {
        "direction": {
            "behind": [1, 0],
            "front": [-1, 0],
            "right": [0, 1],
            "left": [0, -1],
            "behind-right": [1, 1],
            "behind-left": [1, -1],
            "front-right": [-1, 1],
            "front-left": [-1, -1],
        },
        "step": [1, 2],
    },
    "coordinate": {
        **{"unit": 0.15, "step": 1.5, "min_gap": 0.15},
        **{"x_min": -6, "x_max": 6, "y_min": -6, "y_max": 6},
        **{"vis_x_min": -3, "vis_x_max": 3, "vis_y_min": -3, "vis_y_max": 3},
    },
}
"""As published, but for the colours of its flat pass."""

OUTSIDE = [(-40, -40), (-40, -20), (-40, 0), (-40, 20), (-40, 40), (40, 40), (40, 20)]
"""Places of the objects 3 to 9, in steps of the grid."""


def objects(turn):
    """Three objects in the visible area and seven outside; `turn` makes scenes differ."""
    places = [(-12 + turn, -14), (0, turn), (12, 14 - turn), *OUTSIDE]
    shapes, colors = list(PROPERTIES["shape"]), list(PROPERTIES["color"])
    return [
        {
            "color": colors[(k + turn) % 8],
            "material": list(PROPERTIES["material"])[k % 3],
            "shape": shapes[k % 3],
            "size": ["medium", "large", "medium"][k] if k < 3 else "small",
            "position": list(place),
        }
        for k, place in enumerate(places)
    ]


def step(obj, attribute, value, **more):
    """One transformation, as published."""
    pair = isinstance(value, tuple)
    return {
        "obj_idx": obj,
        "attr": attribute,
        "val": list(value) if pair else value,
        "options": [list(value) if pair else value],
        **({"type": "inner"} if pair else {}),
        **more,
    }


def document(idx, *steps):
    """A sample in the published, slim form."""
    before = objects(idx % 8)
    after = [dict(o) for o in before]
    for t in steps:
        obj = after[t["obj_idx"]]
        if t["attr"] == "position":
            vector = PROPERTIES["position"]["direction"][t["val"][0]]
            cells = [10 * t["val"][1] * v for v in vector]
            obj["position"] = [p + c for p, c in zip(obj["position"], cells, strict=True)]
        else:
            obj[t["attr"]] = t["val"]
    names = {
        end: {f"Camera_{c}": f"TRANCE_standard_img_{idx:06d}-{end}.Camera_{c}.png" for c in cameras}
        for end, cameras in (("initial", ["Center"]), ("final", ["Left", "Right", "Center"]))
    }
    return {
        "idx": idx,
        "states": [
            {"objects": before, "images": names["initial"]},
            {"objects": after, "images": names["final"]},
        ],
        "transformations": list(steps),
    }


def documents():
    """Six samples: four with looks only, two with moves."""
    return [
        document(0, step(0, "color", "cyan")),
        document(1, step(1, "size", "medium"), step(2, "shape", "cube")),
        document(2, step(1, "position", ("front", 1)), step(0, "material", "metal")),
        document(3, step(0, "material", "glass"), step(0, "shape", "sphere")),
        document(4, step(2, "color", "red")),
        document(5, step(0, "position", ("front-right", 1))),
    ]


def colours(name):
    """The picture called `name`: one colour, an opaque fourth channel as Blender wrote it."""
    rgb = np.frombuffer(name.encode()[-16:-13] + name.encode()[24:27], dtype=np.uint8)[[0, 3, 5]]
    return np.dstack([np.full((HEIGHT, WIDTH, 3), rgb), np.full((HEIGHT, WIDTH), 255, np.uint8)])


def image_names(sample):
    return [n for s in (sample["states"][0], sample["states"][-1]) for n in s["images"].values()]


def write_images(root, samples):
    (root / "image").mkdir(parents=True)
    for sample in samples:
        for name in image_names(sample):
            PIL.Image.fromarray(colours(name)).save(root / "image" / name)


def write_jsonl(root, samples):
    """As published: `data.jsonl` beside `image/`."""
    write_images(root, samples)
    (root / "data.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples))


def write_json(root, samples):
    """As the generator writes it: `info/*.json` beside `image/`."""
    write_images(root, samples)
    (root / "info").mkdir()
    for sample in samples:
        path = root / "info" / f"TRANCE_standard_{sample['idx']:06d}.json"
        path.write_text(json.dumps(sample, indent=2))


def write_hdf5(root, samples, sizes=(("train", 3), ("val", 1), ("test", 2))):
    """As the published preprocessing packs it."""
    root.mkdir(parents=True)
    (root / "properties.json").write_text(json.dumps(PROPERTIES))
    rest = list(samples)
    with h5py.File(root / "data.h5", "w", libver="latest") as file:
        for split, number in sizes:
            group = file.create_group(split)
            images, data = group.create_group("image"), group.create_group("data")
            chosen, rest = rest[:number], rest[number:]
            keys = [str(s["idx"]) for s in chosen]
            for key, sample in zip(keys, chosen, strict=True):
                data.create_dataset(key, data=json.dumps(sample))
                for name in image_names(sample):
                    images.create_dataset(name, data=colours(name), dtype=np.uint8)
            basic = [k for k, s in zip(keys, chosen, strict=True) if len(s["transformations"]) == 1]
            group.create_dataset("keys", data=str(keys))
            group.create_dataset("basic_keys", data=str(basic))


FORMS = {"hdf5": write_hdf5, "jsonl": write_jsonl, "json": write_json}


def run(src, out, attributes=(), strict=False):
    return list(prepare_import(src, out, attributes, strict).run())


def findings(dataset):
    return [str(f) for _, found in validate(dataset) for f in found]


@pytest.mark.parametrize("form", FORMS)
def test_every_form(tmp_path, form):
    FORMS[form](tmp_path / "src", documents())
    outcomes = run(tmp_path / "src", tmp_path / "out")
    assert [o.kind for o in outcomes] == ["imported"] * 6
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.ids() == [f"{k:06d}" for k in range(6)]
    assert dataset.config.world.directions["front"] == (-1, 0)
    assert dataset.manifest.counts == {"samples": 6, "images": 24}
    assert dataset.manifest.source == {
        "format": "trance",
        "form": form,
        "attributes": [],
        "strict": False,
        "estimated": ["cameras", "lights", "rotations"],
        "left_out": {},
        "broken_rules": {},
    }
    for source, sample in zip(documents(), dataset.samples(), strict=True):
        plan = sample.plan
        for there, here in zip(source["states"][0]["objects"], plan.initial, strict=True):
            assert [here.x, here.y] == pytest.approx([0.15 * c for c in there["position"]])
            for key in ("shape", "size", "color", "material"):
                assert getattr(here, key) == there[key]
        assert same_state(plan.states(dataset.world)[-1], plan.final)
        assert {(i.state, i.camera) for i in sample.images} == {
            ("initial", "center"),
            *(("final", c) for c in ("left", "center", "right")),
        }
        for image in sample.images:
            assert image.mask is None
            assert [o.index for o in image.objects] == [0, 1, 2]
            assert all(o.bbox and o.pixels > 50 for o in image.objects)
            name = source["states"][0 if image.state == "initial" else -1]["images"]
            original = colours(name[f"Camera_{image.camera.capitalize()}"])[..., :3]
            picture = PIL.Image.open(dataset.folder(sample.id) / image.path)
            assert np.array_equal(np.asarray(picture), original)
    assert answer_text(dataset.sample("000002").plan.transformations) == (
        "1.position.front.1, 0.material.metal"
    )
    assert findings(dataset) == []
    assert "cc-by-nc-4.0" in (tmp_path / "out" / "README.md").read_text()


def test_splits_of_the_packed_form(tmp_path):
    write_hdf5(tmp_path / "src", documents())
    run(tmp_path / "src" / "data.h5", tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.split_names() == ["trance/test", "trance/train", "trance/val"]
    test = dataset.split("trance/test")
    assert [(p.sample, p.final) for p in test] == [
        (s, c) for s in ("000004", "000005") for c in ("center", "left", "right")
    ]


def full(sample):
    """The sample as the generator writes it, with what the published form leaves out."""
    cameras = {
        "Camera_Center": [9.6, 0.2, 6.1],
        "Camera_Left": [7.2, -6.4, 6.6],
        "Camera_Right": [7.7, 6.3, 6.0],
    }
    lamps = {"Lamp_Key": [6.0, -2.0, 4.0], "Lamp_Back": [-1, 3, 6], "Lamp_Fill": [-4, -4, 5.5]}
    for state in sample["states"]:
        for k, obj in enumerate(state["objects"]):
            obj.update(name=f"Object_{k}", rotation=0.1 * k)
    for t in sample["transformations"]:
        t["target"] = t.pop("val")
    return {**sample, "cameras": cameras, "lamps": lamps, "directions": {}}


def test_what_the_generator_records_is_kept(tmp_path):
    write_json(tmp_path / "src", [full(s) for s in documents()])
    run(tmp_path / "src", tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    assert (dataset.manifest.source or {})["estimated"] == []
    for sample in dataset.samples():
        assert sample.plan.cameras["left"].position == (7.2, -6.4, 6.6)
        assert sample.plan.lights["key"].position == (6.0, -2.0, 4.0)
        assert [o.rotation for o in sample.plan.final] == pytest.approx(
            [0.1 * k for k in range(10)]
        )
    assert findings(dataset) == []


def test_only_some_attributes(tmp_path):
    write_jsonl(tmp_path / "src", documents())
    done = tvr(
        *("import-trance", tmp_path / "src", tmp_path / "out"),
        *("--attributes", "color,shape,size,material"),
    )
    assert done.returncode == 0, done.stderr
    assert "4 imported, 2 other attributes" in done.stdout
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.ids() == ["000000", "000001", "000003", "000004"]
    assert dataset.config.transformations.attributes == ("color", "shape", "size", "material")
    assert dataset.config.num_samples == 4
    assert findings(dataset) == []
    assert tvr("split", tmp_path / "out").returncode == 0
    assert (
        len(list(export_dataset(dataset, tmp_path / "rows", "sharegpt", ["cross-view/train"]))) == 1
    )
    predictions = tmp_path / "p.jsonl"
    with predictions.open("w") as file:
        for pair in dataset.split("cross-view/test_ood"):
            answer = answer_text(dataset.sample(pair.sample).plan.transformations)
            completion = f"<think></think><answer>{answer}</answer>"
            file.write(json.dumps({**pair.to_json(), "completion": completion}) + "\n")
    done = tvr("score", predictions, tmp_path / "out", "--split", "cross-view/test_ood", "--json")
    assert done.returncode == 0, done.stderr
    assert '"tacc"' in done.stdout.lower()


def test_attributes_that_do_not_exist(tmp_path):
    with pytest.raises(ParameterError, match="^attributes=colour: is unknown; known are position"):
        prepare_import(tmp_path, tmp_path / "out", ["color", "colour"])
    line = refused("import-trance", tmp_path, tmp_path / "out", "--attributes", "color,colour")
    assert line.startswith("error: --attribute colour: is unknown; known are position, shape")


def test_it_goes_on_where_it_stopped(tmp_path):
    write_hdf5(tmp_path / "src", documents())
    whole = tmp_path / "whole"
    run(tmp_path / "src", whole)
    out = tmp_path / "out"
    work = prepare_import(tmp_path / "src", out).run()
    next(work)
    next(work)
    work.close()
    assert len(Dataset.open(out).ids()) == 2
    (out / "samples/00000/.000002.1").mkdir()
    assert [o.kind for o in run(tmp_path / "src", out)] == ["there"] * 2 + ["imported"] * 4
    assert [o.kind for o in run(tmp_path / "src", out)] == ["there"] * 6

    def files(root):
        return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert files(out) == files(whole)


def test_a_target_made_otherwise(tmp_path, star):
    write_jsonl(tmp_path / "src", documents())
    run(tmp_path / "src", tmp_path / "out")
    with pytest.raises(ConfigError, match="out: was made with source.strict = false, now .* true"):
        run(tmp_path / "src", tmp_path / "out", strict=True)
    with pytest.raises(
        ConfigError, match=r'out: was made with .*attributes = .*, now .*\["color"\]'
    ):
        run(tmp_path / "src", tmp_path / "out", ("color",))
    with pytest.raises(ConfigError, match="was made with .*; use the same settings or another"):
        run(tmp_path / "src", star)
    with pytest.raises(ConfigError, match="not empty"):
        run(tmp_path / "src", tmp_path / "src")
    with pytest.raises(ConfigError, match="data.jsonl: is a file"):
        run(tmp_path / "src", tmp_path / "src" / "data.jsonl")
    line = refused("render", tmp_path / "out", "--config", "trance")
    assert "was made with" in line


@pytest.mark.parametrize("which", ["star", "tiny"])
def test_our_own_data_comes_back(request, which, tmp_path):
    """Directions are found by replay: our front leads towards the camera, TRANCE's away."""
    original = Dataset.open(request.getfixturevalue(which))
    assert list(export_dataset(original, tmp_path / "trance", "trance"))
    if which == "tiny":
        (tmp_path / "trance" / "properties.json").unlink()
    assert {o.kind for o in run(tmp_path / "trance", tmp_path / "out")} == {"imported"}
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.config.world.directions == original.config.world.directions
    for before, after in zip(original.samples(), dataset.samples(), strict=True):
        number = len(before.plan.initial)
        assert after.plan.initial[:number] == before.plan.initial
        assert after.plan.final[:number] == before.plan.final
        assert after.plan.transformations == before.plan.transformations
        assert after.plan.cameras == dict(before.plan.cameras)
        assert after.plan.lights == dict(before.plan.lights)
        for image in before.images:
            name = f"{image.state}-{image.camera}.png"
            pixels = [
                np.asarray(PIL.Image.open(d.folder(before.id) / name)) for d in (original, dataset)
            ]
            assert np.array_equal(pixels[0], pixels[1])
            found = after.image(image.state, image.camera)
            assert found.relations == image.relations
            for a, b in zip(found.objects, image.objects, strict=True):
                assert (a.index, a.center, a.depth) == (b.index, b.center, b.depth)
                assert abs(a.pixels - b.pixels) <= 0.1 * b.pixels + 4
    assert findings(dataset) == []


def repeating():
    """The same attribute of the same object twice, which TRANCE allows and we do not."""
    return document(6, step(0, "color", "red"), step(0, "color", "gray"))


def test_rules_that_trance_does_not_have(tmp_path):
    write_jsonl(tmp_path / "src", [*documents(), repeating()])
    assert [o.kind for o in run(tmp_path / "src", tmp_path / "out")] == ["imported"] * 7
    dataset = Dataset.open(tmp_path / "out")
    assert (dataset.manifest.source or {})["broken_rules"] == {"once-only": 1}
    (found,) = findings(dataset)
    assert found.startswith("000006: rule once-only")
    kinds = [o.kind for o in run(tmp_path / "src", tmp_path / "strict", strict=True)]
    assert kinds == ["imported"] * 6 + ["broken rule"]
    strict = Dataset.open(tmp_path / "strict")
    assert (strict.manifest.source or {})["left_out"] == {"broken rule": 1}
    assert findings(strict) == []


# Bad input

BAD = 3


def change(*path_and_value):
    *path, last, value = path_and_value

    def apply(sample):
        block = sample
        for key in path:
            block = block[key]
        block[last] = value

    return apply


IMAGES = ("states", 0, "images")
OBJECT = ("states", 0, "objects", 0)
DAMAGE = {
    "path with ..": (change(*IMAGES, "Camera_Center", "../../secret.png"), "does not match"),
    "absolute path": (change(*IMAGES, "Camera_Center", "/etc/passwd"), "does not match"),
    "missing image": (change(*IMAGES, "Camera_Center", "no.png"), "no.png"),
    "no images": (change("states", 0, "images", {}), "first state has images from nowhere"),
    "other camera": (
        change("states", -1, "images", {"Camera_Top": "no.png"}),
        "last state has images from top",
    ),
    "unknown shape": (change(*OBJECT, "shape", "torus"), "'torus' is unknown"),
    "unknown colour": (change(*OBJECT, "color", "teal"), "'teal' is unknown"),
    "position off the grid": (change(*OBJECT, "position", [0.5, 1]), "position"),
    "huge position": (change(*OBJECT, "position", [10**400, 1]), "401 digits"),
    "moved object": (change(*OBJECT, "position", [1, 1]), "do not lead to the final state"),
    "lost object": (lambda s: s["states"][-1]["objects"].pop(), "do not lead to the final state"),
    "unknown object": (change("transformations", 0, "obj_idx", 99), "99"),
    "wrong value": (change("transformations", 0, "val", "teal"), "teal"),
    "a move as a color": (change("transformations", 0, "val", ["front", 1]), "is no value of"),
    "unknown attribute": (change("transformations", 0, "attr", "mood"), "mood"),
    "no transformation": (change("transformations", []), "transformations"),
    "one state": (lambda s: s["states"].pop(), "states"),
    "wrong type": (change("states", "here"), "states"),
    "camera overhead": (change("cameras", {"Camera_Center": [0, 0, 9]}), "no direction for up"),
    "camera inside": (change("cameras", {"Camera_Center": [1, 1, 1]}), "beside or behind"),
    "camera at nowhere": (change("cameras", {"Camera_Center": [1e300, 1, 1]}), "cameras"),
    "twice": (change("idx", 1), "does not|twice|do not lead"),
    "negative": (change("idx", -1), "idx"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_left_out(tmp_path, kind):
    damage, expected = DAMAGE[kind]
    samples = documents()
    write_images(tmp_path / "src", samples)
    damage(samples[BAD])
    lines = "".join(json.dumps(s) + "\n" for s in samples)
    (tmp_path / "src" / "data.jsonl").write_text(lines)
    check_left_out(tmp_path, f"data.jsonl, line {BAD + 1}", expected)


def check_left_out(tmp_path, where, expected):
    """Five of six samples are imported; the other one is named in one line."""
    before = sorted(p.name for p in tmp_path.iterdir())
    outcomes = run(tmp_path / "src", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", *before]
    assert [o.kind for o in outcomes].count("imported") == 5
    (message,) = [o.message for o in outcomes if o.kind == "damaged"]
    assert "\n" not in message
    assert where in message or "image" in message
    assert re.search(expected, message), message
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.manifest.counts["samples"] == 5
    assert (dataset.manifest.source or {})["left_out"] == {"damaged": 1}
    assert findings(dataset) == []


def with_image(change_file):
    def damage(root):
        change_file(root / "image" / f"TRANCE_standard_img_{BAD:06d}-initial.Camera_Center.png")

    return damage


def outside_link(path):
    outside = path.parents[2] / "outside.png"
    path.rename(outside)
    path.symlink_to(outside)


def smaller(path):
    PIL.Image.new("RGB", (80, 60)).save(path)


def in_line(text):
    def damage(root):
        path = root / "data.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        lines[BAD] = text + b"\n"
        path.write_bytes(b"".join(lines))

    return damage


FILES = {
    "truncated": (with_image(lambda p: p.write_bytes(p.read_bytes()[:90])), "damaged"),
    "empty": (with_image(lambda p: p.write_bytes(b"")), "damaged"),
    "gone": (with_image(lambda p: p.unlink()), "there is no such file"),
    "smaller": (with_image(smaller), "is RGB 80 x 60, and should be RGB 160 x 120"),
    "no JSON": (in_line(b"{"), "not valid JSON"),
    "NaN": (in_line(b'{"idx": NaN}'), "NaN"),
    "not UTF-8": (in_line(b"\xff\xfe"), "not UTF-8"),
    "a list": (in_line(b"[]"), "object"),
}


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_named_and_left_out(tmp_path, kind):
    damage, expected = FILES[kind]
    write_jsonl(tmp_path / "src", documents())
    damage(tmp_path / "src")
    check_left_out(tmp_path, "data.jsonl, line 4", expected)


def test_a_link_out_of_the_folder(tmp_path):
    write_jsonl(tmp_path / "src", documents())
    with_image(outside_link)(tmp_path / "src")
    check_left_out(tmp_path, "image", "is a link")


def replaced(kind, name, value):
    def damage(file, folder):
        group = file["val"][kind]
        del group[name]
        if value is not None:
            group[name] = value(folder) if callable(value) else value

    return damage


def outside(kind, name, shape):
    """A dataset whose content is a file elsewhere."""

    def damage(file, folder):
        (folder / "secret").write_bytes(b"{}" + bytes(120 * 160 * 3))
        where = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        where.set_external(str(folder / "secret").encode(), 0, h5py.h5f.UNLIMITED)
        space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
        dtype = h5py.h5t.py_create(np.dtype("u1" if shape else "S100"))
        del file["val"][kind][name]
        h5py.h5d.create(file["val"][kind].id, name.encode(), dtype, space, where)

    return damage


def virtual(file, folder):
    del file["val/image"][IMAGE]
    layout = h5py.VirtualLayout((120, 160, 3), np.uint8)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (120, 160, 3), np.uint8)
    file["val/image"].create_virtual_dataset(IMAGE, layout)


def unwritten(shape, chunks):
    """A picture of which nothing was written, which takes no room in the file."""

    def damage(file, folder):
        del file["val/image"][IMAGE]
        file["val/image"].create_dataset(
            IMAGE, shape, np.uint8, chunks=chunks, maxshape=(None, None, 3), compression="gzip"
        )

    return damage


IMAGE = f"TRANCE_standard_img_{BAD:06d}-initial.Camera_Center.png"
HDF5 = {
    "no image": (replaced("image", IMAGE, None), "there is no val/image"),
    "an image of floats": (replaced("image", IMAGE, np.zeros((120, 160, 3))), "is no image"),
    "a flat image": (replaced("image", IMAGE, np.zeros((120, 160), np.uint8)), "is no image"),
    "a soft link": (replaced("image", IMAGE, h5py.SoftLink("/train")), "is a link"),
    "another file": (
        replaced("image", IMAGE, lambda f: h5py.ExternalLink(str(f / "o.h5"), "/x")),
        "is a link",
    ),
    "a number": (replaced("data", str(BAD), 7), "is no text"),
    "a picture outside": (outside("image", IMAGE, (120, 160, 3)), "is in another file"),
    "text outside": (outside("data", str(BAD), ()), "is in another file"),
    "a virtual picture": (virtual, "is in another file"),
    "a huge picture": (unwritten((60_000, 60_000, 3), (64, 64, 3)), "should be RGB 160 x 120"),
    "huge pieces": (unwritten((120, 160, 3), (32_000, 32_000, 3)), "pieces that are too large"),
    "no JSON": (replaced("data", str(BAD), b"{"), "not valid JSON"),
}


@pytest.mark.parametrize("kind", HDF5)
def test_damaged_members_of_the_packed_form(tmp_path, kind):
    damage, expected = HDF5[kind]
    write_hdf5(tmp_path / "src", documents())
    with h5py.File(tmp_path / "src" / "data.h5", "a") as file:
        damage(file, tmp_path)
    check_left_out(tmp_path, "val/data/3", expected)


def test_files_that_are_no_trance(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is no TRANCE"):
        prepare_import(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="is no TRANCE"):
        prepare_import(tmp_path / "nothing", tmp_path / "out")
    write_hdf5(tmp_path / "src", documents())
    path = tmp_path / "src" / "data.h5"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="data.h5: cannot be read as HDF5"):
        prepare_import(tmp_path / "src", tmp_path / "out")
    with h5py.File(path, "w") as file:
        file["train"] = 3
    with pytest.raises(DataError, match="there is no train/data"):
        prepare_import(tmp_path / "src", tmp_path / "out")
    with h5py.File(path, "w") as file:
        file.create_group("..")["data"] = 3
    with pytest.raises(DataError, match="data.h5"):
        prepare_import(tmp_path / "src", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"shape": {"torus": "T"}, "size": {}}'])
def test_properties_that_are_none(tmp_path, content):
    write_jsonl(tmp_path / "src", documents())
    (tmp_path / "src" / "properties.json").write_text(content)
    with pytest.raises(DataError, match="properties.json"):
        prepare_import(tmp_path / "src", tmp_path / "out")


def test_nothing_left_to_import(tmp_path):
    write_jsonl(tmp_path / "src", documents()[:2])
    with pytest.raises(DataError, match="none of its 2 samples was imported"):
        run(tmp_path / "src", tmp_path / "out", ("position",))
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_the_command_ends_with_one_where_something_is_damaged(tmp_path):
    write_jsonl(tmp_path / "src", documents())
    FILES["truncated"][0](tmp_path / "src")
    done = tvr("import-trance", tmp_path / "src", tmp_path / "out")
    assert done.returncode == 1
    assert "1 damaged, 5 imported" in done.stdout
    (line,) = [n for n in done.stderr.splitlines() if n.startswith("left out: ")]
    assert IMAGE in line
    shutil.rmtree(tmp_path / "src")
    assert "is no TRANCE" in refused("import-trance", tmp_path / "src", tmp_path / "o", status=1)
    assert Path(tmp_path / "out" / "README.md").is_file()

"""`tvr export`: every form is read back, by its own library where there is one."""

import ast
import io
import json
import os
import re
import shutil
import tracemalloc
from pathlib import Path

import datasets
import h5py
import numpy as np
import PIL.Image
import pytest
import webdataset
import yaml

from star_tvr import Episodes
from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.scenes.rules import same_state
from star_tvr.scenes.states import SceneObject
from star_tvr.scenes.transformations import Transformation, parse_transformation, replay
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.pictures import decode_png
from star_tvr.schemas.records import Pair
from star_tvr.training.answers import compose, parse_truth
from star_tvr.training.exports import parquet_writer, webdataset_writer
from star_tvr.training.exports.export_dataset import FORMATS, export_dataset
from star_tvr.training.exports.items import read_checked
from star_tvr.training.integrations.verl import compute_score
from star_tvr.training.prompts import flat_messages
from tests.generator.command import limited, linux, refused, tvr

SPLITS = ["train", "val", "test_id", "test_ood"]


@pytest.fixture(scope="session")
def divided(star, tmp_path_factory) -> Dataset:
    """The eight samples, with splits like those of the scheme cross-view."""
    root = Path(shutil.copytree(star, tmp_path_factory.mktemp("divided") / "data"))
    dataset = Dataset.open(root)
    ids = dataset.ids()
    parts = {"train": ids[:5], "val": ids[5:6], "test_id": ids[6:7]}
    for name, samples in parts.items():
        dataset.write_split(f"cross-view/{name}", [Pair(i, "center", "center") for i in samples])
    other = [Pair(ids[7], "center", final) for final in ("left", "right")]
    dataset.write_split("cross-view/test_ood", other)
    return dataset


def run(dataset, out, form, *splits):
    """Export, and count the pairs."""
    return sum(1 for _ in export_dataset(dataset, out, form, splits))


def pairs(dataset, split):
    return dataset.split(f"cross-view/{split}")


def leads(dataset, sample, transformations):
    """Whether the transformations lead from the first to the last state of a sample."""
    plan = dataset.sample(sample).plan
    return same_state(replay(plan.initial, transformations, dataset.world)[-1], plan.final)


def oracle(dataset, row):
    """The exported answer, replayed on the exported objects, gives the exported final objects."""
    before, after = (
        tuple(SceneObject.from_json(o) for o in row[f"{end}_objects"])
        for end in ("initial", "final")
    )
    answer = [parse_transformation(t) for t in row["answer"].split(", ")]
    assert same_state(replay(before, answer, dataset.world)[-1], after)
    assert [Transformation(**t) for t in row["transformations"]] == answer
    assert before == dataset.sample(row["sample"]).plan.initial
    assert [m["content"].count("<image>") for m in row["prompt"]] == [0, 2]


def pixels(dataset, sample, name):
    return np.asarray(PIL.Image.open(dataset.folder(sample) / name))


def check_pictures(dataset, row, initial_image, final_image, initial_mask, final_mask):
    for state, image, mask in (
        ("initial", initial_image, initial_mask),
        ("final", final_image, final_mask),
    ):
        name = f"{state}-{row[state]}"
        assert np.array_equal(np.asarray(image), pixels(dataset, row["sample"], f"{name}.png"))
        assert np.array_equal(np.asarray(mask), pixels(dataset, row["sample"], f"{name}.mask.png"))


def test_parquet(divided, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_writer, "ROWS_PER_GROUP", 2)
    monkeypatch.setattr(parquet_writer, "ROWS_PER_FILE", 4)
    out = tmp_path / "hub"
    assert run(divided, out, "parquet") == sum(len(pairs(divided, s)) for s in SPLITS)
    assert len(list(out.glob("data/cross-view/train-*.parquet"))) == 2  # of 4 rows and of 1
    loaded = datasets.load_dataset(str(out), "cross-view", cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded) == sorted(SPLITS)
    for split, table in loaded.items():
        assert [Pair(r["sample"], r["initial"], r["final"]) for r in table] == pairs(divided, split)
        for column in ("initial_image", "final_image", "initial_mask", "final_mask"):
            assert isinstance(table.features[column], datasets.Image)
        for row in table:
            oracle(divided, row)
            check_pictures(
                divided,
                row,
                *(row[f"{end}_{k}"] for k in ("image", "mask") for end in ("initial", "final")),
            )


def mask_handler(key, content):
    """As in docs/formats.md: the library's own handlers make colors of a palette."""
    if key.endswith("_mask.png"):
        return np.asarray(PIL.Image.open(io.BytesIO(content)))
    return None


def test_webdataset(divided, tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset_writer, "ITEMS_PER_SHARD", 2)
    out = tmp_path / "shards"
    run(divided, out, "webdataset")
    for split in SPLITS:
        expected = pairs(divided, split)
        tars = sorted(map(str, (out / "cross-view").glob(f"{split}-*.tar")))
        assert len(tars) == (len(expected) + 1) // 2
        shards = webdataset.WebDataset(tars, shardshuffle=False).decode(mask_handler, "pil")
        found = list(shards)
        assert [f["__key__"] for f in found] == [
            f"{p.sample}-{p.initial}-{p.final}" for p in expected
        ]
        for sample in found:
            oracle(divided, sample["json"])
            assert sample["initial.png"].mode == "RGB"
            ends = [f"{end}{k}.png" for k in ("", "_mask") for end in ("initial", "final")]
            images = [sample[name] for name in ends]
            check_pictures(divided, sample["json"], *images)


def test_verl(divided, tmp_path):
    out = tmp_path / "verl"
    run(divided, out, "verl")
    for split in SPLITS:
        file = str(out / "cross-view" / f"{split}.parquet")
        table = datasets.Dataset.from_parquet(file, cache_dir=str(tmp_path / "cache"))
        assert [row["extra_info"]["index"] for row in table] == list(range(len(table)))
        episodes = Episodes(divided.root, f"cross-view/{split}")
        assert len(table) == len(episodes)
        for row, episode in zip(table, episodes, strict=True):
            info = {k: row["extra_info"][k] for k in ("sample", "initial", "final", "split")}
            assert info == {**episode.pair.to_json(), "split": episode.split}
            assert row["prompt"] == flat_messages(episode.prompt)
            for image, shown in zip(row["images"], episode.images, strict=True):
                assert np.array_equal(np.asarray(image), np.asarray(shown))
            truth = row["reward_model"]["ground_truth"]
            assert truth == episodes.truth(episode.index)
            found = compute_score(row["data_source"], compose(parse_truth(truth)), truth)
            assert found["accuracy"] == 5 * len(parse_truth(truth))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_paths(dataset, out, row, paths):
    assert len(paths) == 2
    for state, path in zip(("initial", "final"), paths, strict=True):
        original = dataset.folder(row["sample"]) / f"{state}-{row[state]}.png"
        assert (out / path).resolve().is_relative_to(out.resolve())
        assert (out / path).read_bytes() == original.read_bytes()


def test_sharegpt(divided, tmp_path):
    out = tmp_path / "x"
    run(divided, out, "sharegpt")
    info = json.loads((out / "dataset_info.json").read_text())
    assert sorted(info) == sorted(f"cross-view-{s}" for s in SPLITS)
    for split in SPLITS:
        entry = info[f"cross-view-{split}"]
        assert entry["formatting"] == "sharegpt"
        assert entry["columns"] == {"messages": "messages", "images": "images"}
        rows = lines(out / entry["file_name"])
        assert len(rows) == len(pairs(divided, split))
        for row in rows:
            roles = [m[entry["tags"]["role_tag"]] for m in row["messages"]]
            assert roles == ["system", "user", "assistant"]
            texts = [m[entry["tags"]["content_tag"]] for m in row["messages"]]
            assert [t.count("<image>") for t in texts] == [0, len(row["images"]), 0]
            check_paths(divided, out, row, row["images"])
            assert re.fullmatch("<think></think><answer>.*</answer>", texts[2])
            answer = texts[2].removeprefix("<think></think><answer>").removesuffix("</answer>")
            truth = [parse_transformation(t) for t in answer.split(", ")]
            assert leads(divided, row["sample"], truth)


def test_vlm_r1(divided, tmp_path):
    out = tmp_path / "x"
    run(divided, out, "vlm-r1")
    for split in SPLITS:
        rows = lines(out / "cross-view" / f"{split}.jsonl")
        assert [row["id"] for row in rows] == list(range(len(pairs(divided, split))))
        for row in rows:
            check_paths(divided, out, row, row["image"])
            human, gpt = row["conversations"]
            assert (human["from"], gpt["from"]) == ("human", "gpt")
            assert human["value"].startswith("<image><image>The first")
            assert human["value"].count("<image>") == 2
            truth = [parse_transformation(t) for t in gpt["value"].split(", ")]
            assert leads(divided, row["sample"], truth)


REWARD_PATTERN = re.compile(r"(\w+)\((\w+),\s*'?(\w+)'?\)")
"""How Reason-RFT's rewards find the functions of an answer."""


def undo(function, obj, value):
    """Our transformation for a function of Reason-RFT."""
    attribute = function.removeprefix("change_")
    if attribute == "position":
        direction, _, steps = value.rpartition("_")
        value = f"{direction.replace('_', '-')}.{steps}"
    return Transformation(int(obj), attribute, value)


@pytest.mark.parametrize("which", ["star", "tiny"])
def test_reason_rft(request, which, tmp_path):
    dataset = Dataset.open(request.getfixturevalue(which))
    out = tmp_path / "x"
    number = run(dataset, out, "reason-rft")
    rows = json.loads((out / "default" / "train.json").read_text())
    assert len(rows) == number
    loaded = datasets.load_dataset(
        "json", data_files=str(out / "default/train.json"), cache_dir=str(tmp_path / "cache")
    )
    assert loaded["train"].num_rows == number
    for row in rows:
        assert {"id", "image", "problem", "solution"} <= set(row)
        check_paths(dataset, out, row, row["image"])
        plan = dataset.sample(row["sample"]).plan
        found = REWARD_PATTERN.findall(row["solution"])
        assert len(found) == len(plan.transformations)
        assert leads(dataset, row["sample"], [undo(*f) for f in found])
        (text,) = re.findall(r"\[.*\]", row["problem"])
        (places,) = re.findall(r"\{.*\}", row["problem"])
        view = dataset.sample(row["sample"]).image("initial", row["initial"])
        centers = {str(o.index): [round(c) for c in o.center] for o in view.objects}
        said = {k: list(v) for k, v in ast.literal_eval(places).items()}
        assert {k: said[k] for k in centers} == centers
        listed = ast.literal_eval(text)
        for index, shape, size, color, material in listed:
            obj = plan.initial[int(index)]
            assert (obj.shape, obj.size, obj.color, obj.material) == (shape, size, color, material)


class Loader:
    """What TRANCE's loader does with its files, without torch and its random shifts."""

    def __init__(self, root, split):
        self.root, self.split = root, split
        self.properties = json.loads((root / "properties.json").read_text())
        self.values = json.loads((root / "values.json").read_text())
        self.file = h5py.File(root / "data.h5", "r")
        self.keys = ast.literal_eval(self.file[split]["keys"][()].decode())
        self.basic = ast.literal_eval(self.file[split]["basic_keys"][()].decode())

    def info(self, key):
        return json.loads(self.file[self.split]["data"][key][()])

    def image(self, name):
        return self.file[self.split]["image"][name][..., :3]

    def objects(self, state):
        """Position and one number for each attribute. Shape: (10, 6)."""
        return np.array(
            [
                [*o["position"], *(self.values[k].index(o[k]) for k in LOOKS_THERE)]
                for o in state["objects"]
            ]
        )

    def replay(self, info):
        """The final objects by TRANCE's evaluator."""
        unit = self.properties["coordinate"]["unit"]
        state = self.objects(info["states"][0])
        for t in info["transformations"]:
            if t["attr"] == "position":
                direction, steps = t["val"]
                step = self.properties["coordinate"]["step"] / unit
                vector = self.properties["position"]["direction"][direction]
                state[t["obj_idx"], :2] += np.round(np.array(vector) * steps * step).astype(int)
            else:
                column = 2 + LOOKS_THERE.index(t["attr"])
                state[t["obj_idx"], column] = self.values[t["attr"]].index(t["val"])
        return state


LOOKS_THERE = ["material", "color", "shape", "size"]


def test_trance(divided, tmp_path):
    out = tmp_path / "x"
    run(divided, out, "trance")
    seen = []
    for split in ("train", "val", "test"):  # TRANCE has one test
        loader = Loader(out, split)
        names = [name for name in SPLITS if name.startswith(split)]
        samples = list(dict.fromkeys(p.sample for name in names for p in pairs(divided, name)))
        assert loader.keys == [str(int(s)) for s in samples]
        for key, sample_id in zip(loader.keys, samples, strict=True):
            info, sample = loader.info(key), divided.sample(sample_id)
            seen.append(info)
            assert info["idx"] == int(sample_id)
            assert (key in loader.basic) == (len(info["transformations"]) == 1)
            assert np.array_equal(loader.replay(info), loader.objects(info["states"][-1]))
            assert loader.objects(info["states"][0]).shape == (10, 6)
            for obj, there in zip(sample.plan.initial, info["states"][0]["objects"], strict=False):
                assert [c * 0.15 for c in there["position"]] == pytest.approx([obj.x, obj.y])
            for state, place in (("initial", 0), ("final", -1)):
                for camera, name in info["states"][place]["images"].items():
                    short = camera.removeprefix("Camera_").lower()
                    expected = pixels(divided, sample_id, f"{state}-{short}.png")
                    assert name == f"TRANCE_standard_img_{sample_id}-{state}.{camera}.png"
                    assert np.array_equal(loader.image(name), expected)
                    assert np.array_equal(
                        np.asarray(PIL.Image.open(out / "image" / name)), expected
                    )
            assert set(info["states"][0]["images"]) == {"Camera_Center"}
            assert set(info["states"][-1]["images"]) == {
                f"Camera_{n}" for n in ("Left", "Center", "Right")
            }
    assert sorted(lines(out / "data.jsonl"), key=lambda d: d["idx"]) == sorted(
        seen, key=lambda d: d["idx"]
    )


def test_trance_moves(tiny, tmp_path):
    """Where an object went outside the picture, every such move is an option."""
    dataset = Dataset.open(tiny)
    run(dataset, tmp_path / "x", "trance")
    loader = Loader(tmp_path / "x", "train")
    moves = 0
    for key in loader.keys:
        info = loader.info(key)
        assert np.array_equal(loader.replay(info), loader.objects(info["states"][-1]))
        for t in info["transformations"]:
            assert t["val"] in t["options"]
            moves += t["attr"] == "position"
            if t["attr"] == "position":
                assert (len(t["options"]) > 1) == (t["type"] == "out")
    assert moves


def test_trance_cannot_be_had_of_other_views(star, tmp_path):
    root = Path(shutil.copytree(star, tmp_path / "data"))
    manifest = json.loads((root / "dataset.json").read_text())
    manifest["config"]["cameras"]["final"] = ["left"]
    (root / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="center"):
        run(Dataset.open(root), tmp_path / "x", "trance")


def contents(root):
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
    }


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_bytes_every_time(divided, tmp_path, form):
    run(divided, tmp_path / "a", form)
    run(divided, tmp_path / "b", form)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert (tmp_path / "a" / "README.md").is_file()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a", "b"]


@pytest.mark.parametrize("form", FORMATS)
def test_some_splits(divided, tmp_path, form):
    number = run(divided, tmp_path / "x", form, "cross-view/val", "cross-view/test_ood")
    assert number == len(pairs(divided, "val")) + len(pairs(divided, "test_ood"))
    assert not [n for n in contents(tmp_path / "x") if "train" in n]


def test_several_schemes(divided, tmp_path):
    root = Path(shutil.copytree(divided.root, tmp_path / "data"))
    dataset = Dataset.open(root)
    dataset.write_split("mine/first-half", dataset.split("cross-view/train")[:2])
    run(dataset, tmp_path / "hub", "parquet")
    front = yaml.safe_load((tmp_path / "hub/README.md").read_text().split("---")[1])
    assert [c["config_name"] for c in front["configs"]] == ["cross-view", "mine"]
    mine = datasets.load_dataset(
        str(tmp_path / "hub"), "mine", split="first_half", cache_dir=str(tmp_path / "cache")
    )
    assert mine.num_rows == 2
    with pytest.raises(ConfigError, match="one scheme"):
        run(dataset, tmp_path / "x", "trance")
    assert run(dataset, tmp_path / "x", "trance", "mine/first-half") == 2


@pytest.mark.parametrize("form", ["webdataset", "sharegpt", "parquet"])
def test_memory_does_not_grow(divided, tmp_path, monkeypatch, form):
    monkeypatch.setattr(parquet_writer, "ROWS_PER_GROUP", 10)
    monkeypatch.setattr(webdataset_writer, "ITEMS_PER_SHARD", 10)
    root = Path(shutil.copytree(divided.root, tmp_path / "data"))
    dataset = Dataset.open(root)
    pair = dataset.split("cross-view/train")[0]
    peaks = []
    for number in (20, 120):
        dataset.write_split("cross-view/train", [pair] * number)
        run(dataset, tmp_path / f"warm-{number}", form, "cross-view/val")
        tracemalloc.start()
        assert run(dataset, tmp_path / str(number), form, "cross-view/train") == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 50_000, peaks


# Bad input

LAST = "000007"


def folder(root):
    return root / "samples" / "00000" / LAST


def edit(*path_and_value):
    *path, last, value = path_and_value

    def change(root):
        file = folder(root) / "sample.json"
        document = json.loads(file.read_text())
        block = document
        for key in path:
            block = block[key]
        block[last] = value
        file.write_text(json.dumps(document))

    return change


def cut(name, length):
    def change(root):
        path = folder(root) / name
        path.write_bytes(path.read_bytes()[:length])

    return change


def linked_image(root):
    outside = root.parent / "outside.png"
    (folder(root) / "initial-center.png").rename(outside)
    (folder(root) / "initial-center.png").symlink_to(outside)


def linked_folder(root):
    folder(root).rename(root.parent / "outside")
    folder(root).symlink_to(root.parent / "outside")


def twin(root):
    shutil.rmtree(folder(root))
    shutil.copytree(folder(root).with_name("000006"), folder(root))


def text(name, content):
    return lambda root: (folder(root) / name).write_bytes(content)


OBJECT = ("states", "initial", "objects", 0)
DAMAGE = {
    "truncated image": (cut("initial-center.png", 150), "initial-center.png.*damaged"),
    "image of one byte": (cut("initial-center.png", 1), "initial-center.png.*damaged"),
    "empty image": (cut("initial-center.png", 0), "initial-center.png.*damaged"),
    "no image": (text("initial-center.png", b"BM no PNG"), "initial-center.png.*damaged"),
    "image without its end": (cut("initial-center.png", -20), "initial-center.png.*damaged"),
    "missing image": (lambda r: (folder(r) / "initial-center.png").unlink(), "initial-center.png"),
    "smaller image": (edit("images", 0, "width", 65), "recorded as 65 x 48, but .* 64 x 48"),
    "path with ..": (edit("images", 0, "path", "../000006/final-left.png"), "path.*does not match"),
    "absolute path": (edit("images", 0, "path", "/etc/x.png"), "path.*does not match"),
    "link": (linked_image, "initial-center.png: is a link"),
    "linked folder": (linked_folder, "is a link"),
    "not JSON": (text("sample.json", b"{"), "sample.json: is not valid JSON"),
    "NaN": (text("sample.json", b'{"a": NaN}'), "sample.json: holds NaN"),
    "not text": (text("sample.json", b"\xff\xfe"), "sample.json: cannot be read"),
    "wrong type": (edit(*OBJECT, "rotation", "left"), "sample.json: states.initial.objects.0.rot"),
    "extra field": (edit("colour", "red"), "sample.json: colour: unknown key"),
    "unknown shape": (edit(*OBJECT, "shape", "torus"), "objects.0.shape: 'torus'"),
    "another index": (edit(*OBJECT, "index", 1), "objects.0.index: is 1"),
    "unknown object": (edit("transformations", 0, "object", 99), "transformations: 99"),
    "unknown value": (edit("transformations", 0, "value", "teal"), "transformations: .*teal"),
    "moved object": (edit(*OBJECT, "position", [2.1, 0.9, 0.3]), "lead to the final state"),
    "unknown camera": (edit("images", 0, "camera", "top"), "top"),
    "two samples with one id": (twin, "id is 000006.*called 000007"),
}


def refusal(root, out, form="sharegpt", *splits):
    """The one line of an export that must fail and leave nothing."""
    before = set(root.parent.iterdir())
    with pytest.raises((DataError, ConfigError)) as problem:
        run(Dataset.open(root), out, form, *splits)
    assert set(root.parent.iterdir()) == before
    line = str(problem.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(copy, kind):
    damage, expected = DAMAGE[kind]
    damage(copy)
    line = refusal(copy, copy.parent / "new" / "out")
    assert re.search(expected, line), line
    assert LAST in line


@pytest.mark.parametrize("form", FORMATS)
def test_no_form_leaves_half_a_folder(copy, form):
    DAMAGE["truncated image"][0](copy)
    assert "initial-center.png" in refusal(copy, copy.parent / "out", form)
    (copy.parent / "out").mkdir()
    assert "initial-center.png" in refusal(copy, copy.parent / "out", form)
    assert not list((copy.parent / "out").iterdir())


MASK = "final-left.mask.png"


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
@pytest.mark.parametrize(
    "damage",
    [lambda r: (folder(r) / "final-left.mask.png").unlink(), cut(MASK, 80)],
)
def test_a_missing_or_damaged_mask(copy, form, damage):
    damage(copy)
    assert f"{LAST}/final-left.mask.png" in refusal(copy, copy.parent / "out", form)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"sample": "000099", "initial": "center", "final": "left"}', "000099 is not in the data"),
        (
            '{"sample": "000001", "initial": "center", "final": "top"}',
            "000001 has no image final-top",
        ),
        ('{"sample": "../../1", "initial": "center", "final": "left"}', "line 1: sample"),
        ('{"sample": "000001"}', "line 1"),
        ("{", "line 1: is not valid JSON"),
    ],
)
def test_damaged_split_lines(copy, line, expected):
    path = copy / "splits" / "mine" / "train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    found = refusal(copy, copy.parent / "out")
    assert expected in found and "mine/train.jsonl" in found


def test_a_png_cut_anywhere(star):
    """Nothing but DataError comes out of a truncated file."""
    sample = read_checked(Dataset.open(star), "000000", "here")
    content = (Dataset.open(star).folder("000000") / sample.images[0].path).read_bytes()
    decode_png(content, "whole")
    for length in range(0, len(content), 31):
        with pytest.raises(DataError, match="damaged"):
            decode_png(content[:length], "cut")
    bomb = io.BytesIO()
    PIL.Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    with pytest.raises(DataError, match="damaged"):
        decode_png(bomb.getvalue(), "bomb")


def test_a_target_that_is_not_empty(star, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    dataset = Dataset.open(star)
    for target in ("out", "out/mine.txt"):
        with pytest.raises(ConfigError, match="not empty|is a file"):
            run(dataset, tmp_path / target, "sharegpt")
    assert (tmp_path / "out" / "mine.txt").read_text() == "precious"
    with pytest.raises(ConfigError, match="not empty"):
        run(dataset, dataset.root, "sharegpt")


def test_a_target_that_cannot_be_written(star, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        run(Dataset.open(star), tmp_path / "file" / "out", "sharegpt")


def test_a_link_to_an_empty_folder_stays_a_link(star, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    run(Dataset.open(star), tmp_path / "link", "vlm-r1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "README.md").is_file()


def test_stopping_leaves_nothing(star, tmp_path):
    work = export_dataset(Dataset.open(star), tmp_path / "out", "webdataset")
    next(work)
    assert [p.name.startswith(".out.") for p in tmp_path.iterdir()] == [True]
    work.close()
    assert not list(tmp_path.iterdir())


@linux
@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_named_and_leaves_nothing(divided, tmp_path, form):
    whole = tmp_path / "whole"
    run(divided, whole, form)
    longest = max(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    for size in (longest // 2, longest - 10):
        out = tmp_path / "out"
        done = tvr("export", divided.root, out, "--format", form, preexec_fn=limited(size))
        assert done.returncode == 1, done
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("exporting")]
        assert line.startswith(f"error: {out}: cannot be written (File too large)")
    assert [p.name for p in tmp_path.iterdir()] == ["whole"]


def test_what_cannot_be_read_does_not_blame_the_target(copy):
    for name in ("sample.json", "initial-center.png"):
        (folder(copy) / name).unlink()
        os.mkfifo(folder(copy) / name)
        line = refusal(copy, copy.parent / "out")
        assert f"{LAST}/{name}: cannot be read (it is no ordinary file)" in line
        (folder(copy) / name).unlink()
        shutil.copy(folder(copy).with_name("000006") / name, folder(copy) / name)
        document = folder(copy) / "sample.json"
        document.write_text(document.read_text().replace('"000006"', f'"{LAST}"'))


@pytest.mark.parametrize("form", FORMATS)
def test_folders_need_not_have_names_in_utf_8(divided, tmp_path, form):
    root = tmp_path / os.fsdecode(b"n\xff")
    shutil.copytree(divided.root, root)
    done = tvr("export", root, tmp_path / os.fsdecode(b"x\xff"), "--format", form)
    assert done.returncode == 0, done.stderr
    assert r"x\udcff: 9 pairs as" in done.stdout


def test_the_command(divided, tmp_path):
    out = tmp_path / "out"
    arguments = ["export", divided.root, out, "--format", "vlm-r1", "--split", "cross-view/val"]
    done = tvr(*arguments)
    assert done.returncode == 0, done.stderr
    assert "1 pairs as vlm-r1" in done.stdout
    assert "not empty" in refused(*arguments)
    assert "parquet" in refused("export", divided.root, tmp_path / "x", "--format", "parket")
    line = refused(
        *("export", divided.root, tmp_path / "x", "--format", "parquet", "--split", "x/y"), status=1
    )
    assert "x/y" in line and "cross-view/val" in line
    assert [p.name for p in tmp_path.iterdir()] == ["out"]

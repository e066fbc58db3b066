"""Training on data that Blender renders meanwhile: what is asked, and what survives a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from star_tvr.generator.validate import validate
from star_tvr.scenes.errors import ConfigError
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.stream import Stream
from star_tvr.training import grpo, sft
from star_tvr.training.checks import check_config
from star_tvr.training.config import load_train_config
from star_tvr.training.errors import TrainingError
from star_tvr.training.fresh_renderer import Feeding
from tests.benchmarks.fresh_kills import STAGES, children, questions
from tests.training.conftest import read_log

LARGE = ["image.width=4000", "image.height=3000"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

SFT = {**STAGES["sft"], "max_steps": 8, "save_steps": 2, "logging_steps": 1}
FRESH = {**STAGES["sft"]["fresh"], "workers": 1, "ahead": 8}


@pytest.fixture
def write(tmp_path):
    """Write a training configuration on fresh data and return its path."""

    def written(name="run", fresh=None, **values) -> Path:
        document = {
            "model": "tiny",
            "output_dir": str(tmp_path / name),
            "prompt": {"style": "compact", "location": "cell"},
            "use_cpu": True,
            "report_to": "none",
            "seed": 3,
            **SFT,
            **values,
        }
        document["fresh"] = {**FRESH, **(fresh or {})}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return written


# --- What is asked -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("views", "kinds"),
    [
        ("same", {("center", "center")}),
        ("cross", {("center", "left"), ("center", "right")}),
        ("split", {("center", "left"), ("center", "center"), ("center", "right")}),
    ],
)
def test_questions_are_planned_before_anything_is_there(write, views, kinds):
    path = write(fresh={"config": "star", "ahead": 24}, rows={"views": views}, max_steps=30)
    dataset = check_config(load_train_config("sft", path))
    pairs = dataset.split("fresh/train")
    assert [pair.sample for pair in pairs] == [f"{i:06d}" for i in range(120)]
    asked = [(pair.initial, pair.final) for pair in pairs]
    assert all(asked.count(kind) == 120 / len(kinds) for kind in kinds)
    assert not dataset.root.exists()


def test_several_questions_about_a_sample_are_different_and_adjacent(write):
    path = write(fresh={"config": "star", "pairs": 2, "ahead": 4}, rows={"views": "all"})
    pairs = check_config(load_train_config("sft", path)).split("fresh/train")
    assert len(set(pairs)) == len(pairs) == 32
    assert [pair.sample for pair in pairs] == [f"{i // 2:06d}" for i in range(32)]


# --- What is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fresh", "values", "message"),
    [
        ({"ahead": 7}, {}, "fresh.ahead: 7 samples, but 8 are read .* raise it to 8 or more"),
        ({"keep": "all", "set": LARGE}, {"max_steps": 10**7}, "need about .* MB, .* are free"),
        ({"set": ["cameras.final=[left]"]}, {"rows": {"views": "same"}}, "samples have no such"),
        ({"config": "stars"}, {}, "'stars'|stars: neither a preset"),
        ({"set": ["image.widht=3"]}, {}, "image.widht: unknown key; did you mean"),
        ({"pairs": 2}, {"rows": {"views": "same"}}, "fresh.pairs: 2, but a sample has 1 of them"),
        ({"keep": 5}, {}, "fresh.keep"),
        ({}, {"max_steps": -1}, "max_steps: is needed with fresh data"),
        ({}, {"split": "cross-view/train"}, "split: leave it out: fresh data have none"),
        ({}, {"rows": {"order": "easy-first"}}, "rows.order: easy-first needs all samples"),
        ({}, {"rows": {"streaming": True}}, "rows.streaming"),
    ],
)
def test_refused_before_anything_is_begun(write, tmp_path, fresh, values, message):
    path = write(fresh=fresh, **values)
    with pytest.raises(ConfigError, match=message) as info:
        sft.run(path)
    assert "\n" not in str(info.value)
    assert not (tmp_path / "run").exists()


def test_folders_of_other_recipes_and_test_sets_of_the_same_stream(write, tmp_path, monkeypatch):
    config = check_config(load_train_config("sft", write())).manifest.to_json()
    for name, seed in (("same", 7), ("other", 8)):
        config["config"]["seed"] = config["seed"] = seed
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text(json.dumps(config))
    held_out = [str(tmp_path / "other"), str(tmp_path / "same")]
    with pytest.raises(ConfigError, match=r"held_out: .*/same has the scenes that are trained on"):
        sft.run(write(fresh={"held_out": held_out}))
    check_config(load_train_config("sft", write(fresh={"held_out": held_out[:1]})))
    with pytest.raises(ConfigError, match=r"other: was made with seed = 8, now it is 7"):
        sft.run(write(dataset=held_out[0]))

    monkeypatch.setattr(sft, "load_initial_model", None)  # nothing may be loaded
    root = tmp_path / "same"
    with Stream(root).reading(keep=False):
        other = subprocess.run(
            [sys.executable, "-m", "star_tvr.training.sft", str(write(dataset=str(root)))],
            capture_output=True,
            text=True,
        )
    assert other.returncode == 2 and "same/stream/readers: in use by" in other.stderr


def test_a_renderer_that_dies_at_once_or_is_not_there(write, monkeypatch):
    monkeypatch.setattr(sft, "load_initial_model", None)  # nothing may be loaded
    with pytest.raises(TrainingError, match="the renderer is gone: .*optix") as info:
        sft.run(write("dies", fresh={"device": "optix"}))
    assert "\n" not in str(info.value)
    with pytest.raises(TrainingError, match="there is no renderer: no sign of life for 0.5 s"):
        sft.run(write("alone", fresh={"executor": "none", "patience": 0.5}))


def killing(tell, at):
    """`Feeding.tell` that kills somebody after a step."""

    def told(feeding, step):
        used = tell(feeding, step)
        if step in at:
            renderers = children(os.getpid(), b"star_tvr.tvr")
            workers = [w for r in renderers for w in children(r, b"star_tvr.generator.worker")]
            found = {"worker": workers, "renderer": renderers, "all": workers + renderers}
            assert found[at[step]]
            for pid in found[at[step]] + [os.getpid()] * (at[step] == "all"):
                os.kill(pid, signal.SIGKILL)
        return used

    return told


# --- What is learnt, and what survives ---------------------------------------------------------


@linux
def test_the_same_weights_whatever_was_killed(write, tmp_path, monkeypatch):
    """One run is left alone and keeps its data, the other is killed and deletes them."""
    kept = sft.run(write("kept", fresh={"keep": "all"}, save_steps=100))
    dataset = Dataset.open(kept / "fresh")
    assert dataset.ids() == [f"{i:06d}" for i in range(32)]
    assert not [f for _, findings in validate(dataset) for f in findings]
    log = read_log(kept)
    assert all(0 <= line["wait"] <= 1 and 0 <= line["ahead"] <= 8 for line in log)
    for key in ("samples_per_second", "render_cpu", "disk_bytes"):  # known once it was written
        assert any(line.get(key, 0) > 0 for line in log)
    scenes = json.loads((kept / "run.json").read_text())["trained_on"]
    assert list(scenes.values()) == ["0-31"]

    told = Feeding.tell
    monkeypatch.setattr(Feeding, "tell", killing(told, {2: "worker", 4: "renderer"}))
    path = write("killed")
    with pytest.raises(TrainingError, match="the renderer is gone: killed by signal 9") as info:
        sft.run(path)
    assert "\n" not in str(info.value)
    monkeypatch.setattr(Feeding, "tell", told)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # Samples 16 to 23 were deleted, and are rendered again.
    assert sorted(p.name for p in tmp_path.glob("killed/checkpoint-*"))[-1] == "checkpoint-4"
    folder = sft.run(path)
    assert [line["loss"] for line in read_log(folder) if "loss" in line] == [
        line["loss"] for line in read_log(kept) if "loss" in line
    ]
    weights, wanted = (load_file(f / "model.safetensors") for f in (folder, kept))
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    assert [p.name for p in (folder / "fresh").glob("samples/*/*")] == ["000000"]


@linux
def test_grpo_asks_the_planned_questions_though_its_renderer_is_killed(write, monkeypatch):
    told = Feeding.tell
    monkeypatch.setattr(Feeding, "tell", killing(told, {2: "renderer"}))
    values = {**STAGES["grpo"], "max_steps": 5, "save_steps": 1, "lora": {"r": 4}}
    fresh = values.pop("fresh") | {"config": "star", "ahead": 4}
    del values["learning_rate"]
    path = write("grpo", fresh, rows={"views": "cross"}, **values)
    with pytest.raises(TrainingError, match="the renderer is gone: killed by signal 9"):
        grpo.run(path)
    monkeypatch.setattr(Feeding, "tell", told)
    folder = grpo.run(path)
    pairs = check_config(load_train_config("grpo", path)).split("fresh/train")
    asked = [f"{pair.sample} {pair.initial} {pair.final}" for pair in pairs]
    assert questions(folder) == [
        [question for question in asked[k : k + 2] for _ in range(4)] for k in range(0, 10, 2)
    ]


KILLED = """
import sys
from star_tvr.training import sft
from star_tvr.training.fresh_renderer import Feeding
from tests.training.test_fresh import killing
Feeding.tell = killing(Feeding.tell, {6: "all"})
sft.main(sys.argv[1:])
"""

"""Training on data that Blender renders meanwhile: what is asked, and what survives a kill."""

import json
import os
import shutil
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
from star_tvr.scenes.transformations import answer_text
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.stream import Stream
from star_tvr.training import grpo, report, sft
from star_tvr.training.checks import check_config
from star_tvr.training.config import FreshConfig, load_train_config
from star_tvr.training.curriculum import Curriculum
from star_tvr.training.errors import TrainingError
from star_tvr.training.fresh_dataset import FreshDataset
from star_tvr.training.fresh_renderer import Feeding
from star_tvr.training.rewards import accuracy_reward, resolve_reward
from tests.benchmarks.fresh_kills import STAGES, children, questions
from tests.generator.command import linux
from tests.training.conftest import read_log

LARGE = ["image.width=4000", "image.height=3000"]

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
        ({"schedule": "aim"}, {}, "fresh.schedule: aim goes by the policy's own answers"),
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
    validation = {"dataset": held_out[1], "split": "cross-view/val"}
    with pytest.raises(ConfigError, match=r"validation.dataset: .*/same has the scenes that are"):
        sft.run(write(validation=validation))
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
    folder = sft.run(write("killed", fresh={"patience": 50.0}))  # who renders how may change
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
    fresh = values.pop("fresh") | {"config": "star", "ahead": 4, "schedule": "aim", "every": 1}
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
    # A decision holds for samples beyond those that could be planned when it was made.
    decisions = Stream(folder / "fresh").decisions()
    assert [(d.step, d.first) for d in decisions] == [(1, 4), (2, 6), (3, 8)]
    lines = [json.loads(line) for line in (folder / "asked.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    made_by = [question.get("decision") for line in lines for question in line["asked"]]
    assert made_by == [None, None, None, None, 0, 0, 1, 1, 2, 2]
    with (folder / "asked.jsonl").open("a") as file:
        file.write('{"step": 6, "asked": [{"right": 1}]}\n{"step": 7, "as')  # left out
    page = report.run(folder).read_text()
    assert "What was asked" in page and "what was asked in 5 steps" in page


KILLED = """
import sys
from star_tvr.training import sft
from star_tvr.training.fresh_renderer import Feeding
from tests.training.test_fresh import killing
Feeding.tell = killing(Feeding.tell, {6: "all"})
sft.main(sys.argv[1:])
"""


# --- Curricula ---------------------------------------------------------------------------------


@pytest.fixture
def answered(dataset, tmp_path):
    """Give a curriculum right answers to all questions for which something holds."""

    def answer(curriculum, step, right, first):
        samples = [dataset.sample(sample) for sample in dataset.ids()]
        reward = curriculum.listen(accuracy_reward(resolve_reward("star")))
        columns = {"sample": [], "initial": [], "final": [], "truth": []}
        texts = []
        for sample in samples:
            for k in range(4):
                values = (sample.id, "center", "left", answer_text(sample.plan.transformations))
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
                good = right(sample, k)
                texts.append(f"<answer>{values[-1] if good else ''}</answer>")
        reward([[{"role": "assistant", "content": text}] for text in texts], **columns)
        curriculum.step_end(step, first, main=True)

    return answer


def curriculum(dataset, folder, **values):
    fresh = FreshConfig(config="star", seed=dataset.config.seed, every=1, **values)
    shutil.copytree(dataset.root, folder / "data", dirs_exist_ok=True)
    data = FreshDataset(folder / "data", dataset.manifest, "cross", 1, 100, 1.0)
    made = Curriculum(fresh, data, folder)
    return made, data.stream


def test_aim_asks_more_about_what_is_sometimes_right(dataset, tmp_path, answered):
    made, stream = curriculum(dataset, tmp_path, schedule="aim")
    made.begin(0)
    counts = {len(dataset.sample(s).plan.transformations) for s in dataset.ids()}
    few = min(counts)
    answered(made, 1, lambda sample, k: k < 2 and len(sample.plan.transformations) == few, 16)
    [decision] = stream.decisions()
    assert (decision.decision, decision.step, decision.first) == (0, 1, 16)
    weights = dict(decision.weights["changes"])
    assert weights.pop(str(few)) > 1 > max(weights.values()) >= 0.1
    [line] = map(json.loads, (tmp_path / "asked.jsonl").read_text().splitlines())
    assert {(q["right"], q["of"]) for q in line["asked"]} == {(2, 4), (0, 4)}

    # What was decided before an interruption holds, though the answers are others now.
    again, _ = curriculum(dataset, tmp_path, schedule="aim")
    again.begin(0)
    answered(again, 1, lambda sample, k: k < 2, 16)
    assert stream.decisions() == [decision]
    answered(again, 2, lambda sample, k: k < 2, 18)
    assert [d.first for d in stream.decisions()] == [16, 18]


def test_levels_open_when_the_highest_is_mastered(dataset, tmp_path, answered):
    made, stream = curriculum(dataset, tmp_path, schedule="levels")
    made.begin(0)
    for step in range(1, 40):
        answered(made, step, lambda sample, k: True, 16)
    last = stream.decisions()[-1].weights["level"]
    assert {k for k, w in last.items() if w} >= {str(max(0, made.level - 3)), str(made.level)}
    levels = [max(int(k) for k, w in d.weights["level"].items() if w) for d in stream.decisions()]
    assert levels[0] == 0 and levels == sorted(levels)


def test_easy_first_is_decided_at_once(dataset, tmp_path):
    made, stream = curriculum(dataset, tmp_path, schedule="easy-first")
    made.begin(0)
    made.begin(3)
    decisions = stream.decisions()
    assert [d.decision for d in decisions] == list(range(6))  # one for every level
    assert [d.first for d in decisions] == [0, 16, 33, 50, 66, 83]
    assert decisions[-1].weights["level"]["5"] == 1.0

"""Evaluation: every question once, whatever happens in between."""

import json
import shutil

import pytest
import yaml

from scenes.errors import ConfigError, DataError
from training import evaluate, sft
from training.evaluate import Answerer
from training.prompts import PromptConfig

COMPACT = PromptConfig("compact", "cell")
SPLIT = "cross-view/test_ood"


@pytest.fixture
def ask(dataset, tiny, tmp_path):
    """Run a short evaluation of an untrained tiny model."""

    def run(out="out", **values):
        settings = {"max_new_tokens": 8, "batch_size": 2, "prompt": COMPACT, **values}
        model = settings.pop("model", str(tiny["tiny"]))
        return evaluate.run(dataset.root, SPLIT, model, tmp_path / out, **settings)

    return run


@pytest.fixture
def asked(monkeypatch):
    """The questions that were asked, in order."""
    pairs = []
    answer = Answerer.answer

    def noted(self, batch):
        pairs.extend(batch)
        return answer(self, batch)

    monkeypatch.setattr(Answerer, "answer", noted)
    return pairs


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("family", ["tiny", "tiny-idefics3"])
def test_every_question_is_answered_and_scored(ask, asked, dataset, tiny, tmp_path, family):
    report = ask(model=str(tiny[family]))
    pairs = dataset.split(SPLIT)
    assert asked == pairs
    answers = lines(tmp_path / "out" / "predictions.jsonl")
    assert [(a["sample"], a["initial"], a["final"]) for a in answers] == [
        (p.sample, p.initial, p.final) for p in pairs
    ]
    assert report.missing == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["items"] == len(pairs)


def test_answers_do_not_depend_on_the_batch(ask, tmp_path):
    ask("two", batch_size=2)
    ask("one", batch_size=1)
    assert lines(tmp_path / "one" / "predictions.jsonl") == lines(
        tmp_path / "two" / "predictions.jsonl"
    )


def test_an_interrupted_evaluation_asks_only_what_is_left(ask, asked, dataset, tmp_path):
    ask()
    path = tmp_path / "out" / "predictions.jsonl"
    whole = path.read_text()
    kept = whole.splitlines(keepends=True)
    path.write_text(kept[0] + kept[1][:25])  # as a kill in the middle of a write leaves it
    asked.clear()
    ask()
    assert asked == dataset.split(SPLIT)[1:]
    assert path.read_text() == whole
    asked.clear()
    ask()
    assert asked == []


def test_an_interruption_keeps_the_answers_so_far(ask, asked, monkeypatch, tmp_path):
    answer = Answerer.answer

    def stop_at_second(self, batch):
        if asked:
            raise KeyboardInterrupt
        return answer(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Answerer, "answer", stop_at_second)
        with pytest.raises(KeyboardInterrupt):
            ask()
    assert len(lines(tmp_path / "out" / "predictions.jsonl")) == 2
    assert ask().missing == 0


def test_a_folder_belongs_to_one_evaluation(ask, tiny, tmp_path):
    ask()
    with pytest.raises(ConfigError, match="holds an evaluation with max_new_tokens 8, not 9"):
        ask(max_new_tokens=9)
    with pytest.raises(ConfigError, match="holds an evaluation with model"):
        ask(model=str(tiny["tiny-idefics3"]))
    copied = shutil.copytree(tiny["tiny"], tmp_path / "model")
    ask("again", model=str(copied))
    shutil.copy(tiny["tiny"] / "config.json", copied)  # no change
    ask("again", model=str(copied))
    weights = bytearray((copied / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copied / "model.safetensors").write_bytes(weights)
    with pytest.raises(ConfigError, match="holds an evaluation with weights"):
        ask("again", model=str(copied))


def test_the_prompt_is_the_one_of_the_training(ask, write_config, tmp_path):
    folder = sft.run(write_config(max_steps=1, prompt={"style": "compact", "location": "none"}))
    ask(model=str(folder), prompt=None)
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert stored["prompt"] == {"style": "compact", "location": "none", "cells": 8}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["prompt"] == stored["prompt"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "/no/such/model"}, "model: /no/such/model is neither"),
        ({"adapter": "/no/such/adapter"}, "--adapter /no/such/adapter: there is no"),
        ({"device": "cuda"}, "--device cuda: PyTorch sees no GPU here"),
    ],
)
def test_refused_before_any_question(ask, tmp_path, monkeypatch, values, message):
    monkeypatch.setattr(evaluate, "cuda_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        ask(**values)
    assert not (tmp_path / "out").exists()


def test_a_damaged_predictions_file_is_named(ask, tmp_path):
    ask()
    path = tmp_path / "out" / "predictions.jsonl"
    path.write_text("{oops}\n" + path.read_text())
    with pytest.raises(DataError, match=r"predictions.jsonl, line 1: is not valid JSON"):
        ask()

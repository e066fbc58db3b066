"""Evaluation: every question once, whatever happens in between."""

import json
import shutil

import pytest
import torch
import yaml

from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.schemas.dataset import Dataset
from star_tvr.training import evaluate, local_backend, sft
from star_tvr.training.backends import Decoding
from star_tvr.training.config import PromptConfig
from star_tvr.training.evaluate import choose_prompt
from star_tvr.training.local_backend import GumbelNoise, LoadedModel, LocalModel, find_device
from star_tvr.training.metrics_report import read_metrics
from star_tvr.training.models import load_model

COMPACT = PromptConfig(style="compact", location="cell")
SPLIT = "cross-view/test_ood"


@pytest.fixture
def ask(dataset, tiny, tmp_path):
    """Run a short evaluation of an untrained tiny model."""

    def run(out="out", **values):
        settings = {"max_new_tokens": 8, "batch_size": 2, "prompt": COMPACT, **values}
        model, split = settings.pop("model", str(tiny["tiny"])), settings.pop("split", SPLIT)
        limit, prompt = settings.pop("limit", None), settings.pop("prompt")
        return evaluate.run(
            dataset.root, split, model, tmp_path / out, prompt=prompt, limit=limit, **settings
        )

    return run


@pytest.fixture
def asked(monkeypatch):
    """The questions that were asked, in order."""
    pairs = []
    complete = LoadedModel.complete

    def noted(self, batch):
        pairs.extend(question.pair for question in batch)
        return complete(self, batch)

    monkeypatch.setattr(LoadedModel, "complete", noted)
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
    complete = LoadedModel.complete

    def stop_at_second(self, batch):
        if asked:
            raise KeyboardInterrupt
        return complete(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LoadedModel, "complete", stop_at_second)
        with pytest.raises(KeyboardInterrupt):
            ask()
    assert len(lines(tmp_path / "out" / "predictions.jsonl")) == 2
    assert ask().missing == 0


def test_a_folder_belongs_to_one_evaluation(ask, tiny, tmp_path):
    ask()
    with pytest.raises(ConfigError, match="was made with max_new_tokens = 8, now it is 9"):
        ask(max_new_tokens=9)
    with pytest.raises(ConfigError, match="was made with model = "):
        ask(model=str(tiny["tiny-idefics3"]))
    copied = shutil.copytree(tiny["tiny"], tmp_path / "model")
    ask("again", model=str(copied))
    shutil.copy(tiny["tiny"] / "config.json", copied)  # no change
    ask("again", model=str(copied))
    weights = bytearray((copied / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copied / "model.safetensors").write_bytes(weights)
    with pytest.raises(ConfigError, match="was made with weights = "):
        ask("again", model=str(copied))


def test_the_prompt_is_the_one_of_the_training(ask, write_config, tmp_path):
    folder = sft.run(write_config(max_steps=1, prompt={"style": "compact", "location": "none"}))
    ask(model=str(folder), prompt=None)
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    asked = {"style": "compact", "location": "none", "cells": 8}
    assert asked.items() <= stored["prompt"].items()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["prompt"] == stored["prompt"]


def test_sampling_settings_beside_a_model_change_nothing(ask, tiny, tmp_path):
    ask("plain")
    copied = shutil.copytree(tiny["tiny"], tmp_path / "model")
    path = copied / "generation_config.json"
    settings = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 1, "do_sample": True}
    settings |= {"top_k": 3, "top_p": 0.2, "temperature": 0.1}
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    ask("with", model=str(copied))
    assert lines(tmp_path / "plain" / "predictions.jsonl") == lines(
        tmp_path / "with" / "predictions.jsonl"
    )
    # A model that is stored again brings none along for a server.
    load_model(str(copied)).save_pretrained(tmp_path / "again")
    stored = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert not settings.keys() & stored.keys()
    assert stored["eos_token_id"] == json.loads(path.read_text())["eos_token_id"]


def test_answers_are_as_long_as_in_the_training(ask, tiny, tmp_path):
    folder = shutil.copytree(tiny["tiny"], tmp_path / "model")
    (folder / "config.yaml").write_text("prompt: {style: compact}\nmax_completion_length: 3\n")
    report = ask(model=str(folder), max_new_tokens=None, prompt=None)
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (stored["max_new_tokens"], stored["temperature"]) == (3, 0)
    given = lines(tmp_path / "out" / "predictions.jsonl")
    for answer, result in zip(given, report.results, strict=True):
        assert (answer["finish_reason"] == "length") == (result.finish_reason == "length")
        assert 1 <= answer["usage"]["completion_tokens"] <= 3
        assert answer["usage"]["prompt_tokens"] > 12  # of the pictures alone
    cut = sum(answer["finish_reason"] == "length" for answer in given)
    assert report.truncated == cut > 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["truncated"] == cut
    assert read_metrics(tmp_path / "out" / "metrics.json").truncated == cut


def test_several_splits_and_a_limit(ask, asked, dataset, tmp_path):
    splits = ("cross-view/test_id", "cross-view/test_ood")
    pairs = [p for name in splits for p in dataset.split(name)]
    assert ask(split=splits, limit=3).items == 3
    first = list(asked)
    path = tmp_path / "out" / "evaluation.json"
    assert (stored := json.loads(path.read_text()))["limit"] == 3
    assert stored["split"] == list(splits)
    # Raised, it goes on; the first ones are the same ones.
    report = ask(split=splits)
    assert len(asked) == len(pairs) and set(asked) == set(pairs) and asked[:3] == first
    assert "limit" not in json.loads(path.read_text())
    assert {k: v["tacc"].count for k, v in report.groups["split"].items()} == {
        name: len(dataset.split(name)) for name in splits
    }
    with pytest.raises(ConfigError, match="limit=2: .*out asks all questions; ask more, or"):
        ask(split=splits, limit=2)
    with pytest.raises(ConfigError, match="was made with split = "):
        ask()


def test_the_wording_is_chosen(write_config, tmp_path):
    trained = PromptConfig(style="compact")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("prompt: {location: cell, cells: 5}\n")
    assert choose_prompt(["cells=4", "location=none"], trained) == PromptConfig(
        style="compact", cells=4, location="none"
    )
    assert choose_prompt([str(run), "cells=6"], trained) == PromptConfig(location="cell", cells=6)
    for text, message in [
        ("cells=many", "prompt=cells=many: cells: "),
        ("cell=4", "prompt=cell=4: cell: unknown key; did you mean cells"),
        (str(tmp_path), "is neither key=value nor the folder of a run"),
    ]:
        with pytest.raises(ConfigError, match=message):
            choose_prompt([text], trained)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "/no/such/model"}, "model: /no/such/model is neither"),
        ({"adapter": "/no/such/adapter"}, "adapter=/no/such/adapter: there is no"),
        ({"device": "cuda"}, "device=cuda: PyTorch sees no GPU here; use cpu"),
        ({"device": "gpu"}, "device=gpu: is no device of PyTorch; use auto, cpu, cuda"),
    ],
)
def test_refused_before_any_question(ask, tmp_path, monkeypatch, values, message):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        ask(**values)
    assert not (tmp_path / "out").exists()


def test_nothing_to_ask_is_an_error(dataset, tiny, tmp_path):
    copy = Dataset.open(shutil.copytree(dataset.root, tmp_path / "copy"))
    copy.write_split("own/none", [])
    with pytest.raises(DataError, match="own/none.jsonl: the split is empty"):
        evaluate.run(copy.root, "own/none", str(tiny["tiny"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_predictions_file_is_named(ask, tmp_path):
    ask()
    path = tmp_path / "out" / "predictions.jsonl"
    path.write_text("{oops}\n" + path.read_text())
    with pytest.raises(DataError, match=r"predictions.jsonl, line 1: is not valid JSON"):
        ask()


def test_devices(monkeypatch):
    accelerator = torch.accelerator
    monkeypatch.setattr(accelerator, "is_available", lambda: True)
    monkeypatch.setattr(accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(accelerator, "device_count", lambda: 2)
    assert [find_device(name) for name in ("auto", "cpu", "cuda", "cuda:1")] == [
        *("cuda", "cpu", "cuda", "cuda:1"),
    ]
    for name in ("cuda:2", "mps"):
        with pytest.raises(ConfigError, match=f"{name}: PyTorch sees 2 of kind cuda here"):
            find_device(name)
    monkeypatch.setattr(accelerator, "is_available", lambda: False)
    assert find_device("auto") == "cpu"


@pytest.fixture
def draw(dataset, tiny, tmp_path):
    """Let an untrained tiny model answer each question three times; the lines of the file."""

    def run(out, batch_size=4, seed: int | None = 0):
        client = LocalModel(str(tiny["tiny"]), batch_size=batch_size, device="cpu")
        decoding = Decoding(8, temperature=1.0, num_samples=3, seed=seed)
        session = evaluate.prepare(dataset.root, SPLIT, client, tmp_path / out, decoding, COMPACT)
        for _ in session.answers():
            pass
        session.score()
        return lines(tmp_path / out / "predictions.jsonl")

    return run


def test_draws_depend_on_the_seed_alone(draw, asked, dataset, tmp_path):
    answers = draw("a")
    assert [(a["sample"], a["final"], a["draw"]) for a in answers] == [
        (p.sample, p.final, n) for p in dataset.split(SPLIT) for n in range(3)
    ]
    assert len({a["completion"] for a in answers}) == 12
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert (metrics["items"], metrics["answers"], list(metrics["pass_at"])) == (
        *(4, 12),
        ["1", "2", "3"],
    )
    # Interrupted, and gone on with other batches.
    path = tmp_path / "a" / "predictions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    asked.clear()
    assert draw("a", batch_size=3) == answers
    assert len(asked) == 7
    assert draw("b", batch_size=5, seed=None)[0] != draw("c", seed=7)[0]


def test_noise_draws_from_the_softmax():
    rows, temperature = 20_000, 0.5
    scores = torch.tensor([[0.0, 0.5, 1.0, -torch.inf]]).repeat(rows, 1)
    noisy = GumbelNoise(temperature, range(rows))(torch.empty(rows, 0), scores)
    shares = noisy.argmax(dim=1).bincount(minlength=4) / rows
    expected = (scores[0] / temperature).softmax(dim=0)
    assert shares[3] == 0
    assert (shares - expected).abs().max() < 4 * (0.25 / rows) ** 0.5  # four standard errors


def test_noise_goes_on_from_step_to_step():
    scores = torch.zeros(2, 50)
    noise = GumbelNoise(1.0, [1, 1])
    first, second = noise(torch.empty(2, 0), scores), noise(torch.empty(2, 1), scores)
    assert torch.equal(first[0], first[1]) and not torch.equal(first, second)


def test_greedy_decoding_adds_no_noise(ask, monkeypatch, tmp_path):
    monkeypatch.setattr(local_backend, "GumbelNoise", None)
    assert ask().missing == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"num_samples": 2, "temperature": 0.0},
            "num_samples=2: with temperature 0 they would all be the same",
        ),
        ({"temperature": float("nan")}, "temperature=nan: is not a number from 0 up"),
        ({"temperature": -1.0}, "temperature=-1.0: is not"),
        ({"num_samples": 1001, "temperature": 1.0}, "num_samples=1001: is more than 1000"),
    ],
)
def test_decoding_that_makes_no_sense(values, message):
    with pytest.raises(ConfigError, match=message):
        Decoding(**values)

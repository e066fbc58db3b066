"""Validation while training: what is measured, what is kept, and that it changes nothing else."""

import json

import pytest
import torch
from safetensors.torch import load_file

from star_tvr.scenes.errors import ConfigError
from star_tvr.training import evaluate, sft
from star_tvr.training.checks import check_config
from star_tvr.training.config import load_train_config
from star_tvr.training.run_folder import stored_input
from tests.training.conftest import SFT, read_log

SPLIT = "cross-view/test_ood"
VALIDATION = {"split": SPLIT, "limit": 3, "max_new_tokens": 24}


def test_the_best_checkpoint_is_kept_named_and_loaded(warm, write_config, dataset, tmp_path):
    # The learning rate rises until it destroys what the model could.
    values = SFT | {"model": str(warm("tiny")), "max_steps": 3, "save_steps": 1, "seed": 5}
    values |= {"learning_rate": 0.5, "lr_scheduler_type": "constant_with_warmup"}
    values |= {"warmup_steps": 3, "save_total_limit": 2}
    plain = sft.run(write_config(**values, output_dir=str(tmp_path / "plain")))
    values |= {"validation": VALIDATION, "metric_for_best_model": "reward"}
    values |= {"load_best_model_at_end": True, "per_device_eval_batch_size": 2}
    # Interrupted and gone on with: a longer run goes on from its checkpoint.
    config = {**values, "output_dir": str(tmp_path / "run")}
    sft.run(write_config(**config | {"max_steps": 2}))
    first = json.loads((tmp_path / "run" / "run.json").read_text())["best"]
    folder = sft.run(write_config(**config))

    figures = [line for line in read_log(folder) if "eval_tacc" in line]
    assert [line["step"] for line in figures] == [1, 2, 3]
    assert figures[0]["eval_reward"] > max(line["eval_reward"] for line in figures[1:])
    for line in figures:
        for name in ("tacc", "reward", "count_gap", "format"):
            low, value, high = (line[f"eval_{name}{end}"] for end in ("_low", "", "_high"))
            assert low <= value <= high
        assert line["eval_questions"] == 3 and 0 < line["eval_mean_length"] <= 24
    best = json.loads((folder / "run.json").read_text())["best"]
    assert best == {"step": 1, "checkpoint": "checkpoint-1", "reward": figures[0]["eval_reward"]}
    assert first == best
    assert {p.name for p in folder.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-3"}

    # What was learned is what a run without validation learns, bit by bit.
    last, loaded, kept, undisturbed = (
        load_file(path / "model.safetensors")
        for path in (folder / "checkpoint-3", folder, folder / "checkpoint-1", plain)
    )
    for name, weights in undisturbed.items():
        assert torch.equal(weights, last[name]), name
        assert torch.equal(loaded[name], kept[name]), name
    assert any(not torch.equal(kept[name], last[name]) for name in last)
    losses = [[x["loss"] for x in read_log(f) if "loss" in x] for f in (plain, folder)]
    assert losses[0] == losses[1]

    # And tvr evaluate says the same of that checkpoint.
    out, model = tmp_path / "out", str(folder / "checkpoint-1")
    report = evaluate.run(
        dataset.root, SPLIT, model, out, batch_size=2, device="cpu", limit=3, max_new_tokens=24
    )
    for name in ("tacc", "count_gap", "format"):
        estimate = report.overall[name]
        assert figures[0][f"eval_{name}"] == estimate.value
        assert figures[0][f"eval_{name}_low"] == estimate.low
    assert figures[0]["eval_truncated"] == report.truncated / 3
    assert stored_input(model) is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"eval_strategy": "steps"},
            r"eval_strategy: steps: .*validation: {split: cross-view/val}",
        ),
        ({"validation": {"split": "cross-view/vall"}}, "validation.split: there is no .*vall"),
        ({"validation": VALIDATION, "eval_steps": 30}, "eval_steps: 30 is no multiple of save_st"),
        ({"validation": VALIDATION, "eval_strategy": "epoch"}, "eval_strategy: epoch: validation"),
        ({"validation": VALIDATION, "save_strategy": "best"}, "save_strategy: best leaves nothing"),
        (
            {"validation": VALIDATION, "metric_for_best_model": "eval_loss"},
            "metric_for_best_model: loss is not one of tacc, reward, format",
        ),
    ],
)
def test_what_cannot_be_validated_is_refused(write_config, values, message):
    path = write_config(**values)
    with pytest.raises(ConfigError, match=message) as info:
        check_config(load_train_config("sft", path))
    assert str(info.value).startswith(f"{path}: ") and "\n" not in str(info.value)


def test_every_checkpoint_is_validated_by_default(write_config):
    config = load_train_config("grpo", write_config(validation=VALIDATION, save_steps=7))
    given = config.trainer
    assert (given["eval_strategy"], given["eval_steps"], given["num_generations_eval"]) == (
        *("steps", 7, 1),
    )
    check_config(config)

"""`tvr train … --check`: what it says, against what a run then does and takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_tvr.schemas.dataset import Dataset
from star_tvr.training import sft
from star_tvr.training.config import load_train_config
from star_tvr.training.run_plan import plan_run, plan_runs, read_launcher
from star_tvr.tvr import main
from tests.benchmarks.bench_memory import foreign, measure, tiles
from tests.training.conftest import read_log

EXAMPLES = Path(__file__).parents[2] / "examples" / "train"
BATCH: dict[str, Any] = {
    "max_steps": 2,
    "logging_steps": 1,
    "save_strategy": "no",
    "per_device_train_batch_size": 12,
}
GRPO: dict[str, Any] = {
    **BATCH,
    "num_generations": 4,
    "max_completion_length": 12,
    "mask_truncated_completions": False,
}


@pytest.mark.parametrize(
    ("family", "kind", "values"),
    [
        ("tiny", "sft", {**BATCH, "gradient_accumulation_steps": 2}),
        ("tiny", "grpo", {**GRPO, "lora": {"r": 8}, "gradient_checkpointing": True}),
    ],
)
def test_the_estimate_is_what_pytorch_gives_out(write_config, family, kind, values):
    path = write_config(model=family, **values)
    with tiles(64):  # or the tile of logits is nearly all
        config = load_train_config(kind, path)
        most, held, lengths = measure(kind, path)
        memory = plan_run(config, lengths=lengths).memory
    assert memory.weights == pytest.approx(held["weights"], rel=0.01)
    assert memory.gradients == held["gradients"] and memory.optimizer == held["optimizer"]
    assert memory.peak - foreign(memory, kind) == pytest.approx(most, rel=0.1)


def test_steps_and_tokens_are_those_of_the_run(write_config, tiny):
    path = write_config(
        model=str(tiny["tiny"]),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        logging_steps=1,
        save_strategy="no",
    )
    plan = plan_run(load_train_config("sft", path))
    log = [line for line in read_log(sft.run(path)) if "loss" in line]
    assert len(log) == plan.steps.total and plan.steps.epoch * 4 == plan.steps.pairs
    most = plan.tokens.longest * plan.steps.pairs * 2
    least = (plan.tokens.least + 1) * plan.steps.pairs * 2
    assert least < log[-1]["num_tokens"] <= most and plan.tokens.counted


def status(*arguments: str) -> Any:
    """What the command ends with."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code


@pytest.fixture
def check(dataset: Dataset, tmp_path, capsys):
    """Run the command on an example, with the small data set; the plans that it prints."""

    def run(name: str, *options: str) -> list[dict[str, Any]]:
        command = ["train", "grpo", str(EXAMPLES / name), "--check", "--json", *options]
        changed = ["--set", f"dataset={dataset.root}", "--set", "validation=null"]  # it has no val
        assert not status(*command, *changed)
        plans: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return plans

    return run


def test_without_a_gpu_and_without_weights(check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [plan] = check("qwen2.5-vl-7b-1gpu.yaml")
    assert plan["memory"]["parameters"] - plan["memory"]["trained"] == 8_292_166_656
    assert plan["memory"]["trained"] == 80_740_352  # 28 layers, rank 32
    assert plan["known_from"] == "the published shapes of Qwen2.5-VL-7B"
    assert plan["steps"]["questions"] == 8 and plan["steps"]["completions"] == 64
    assert any("processor" in line for line in plan["unchecked"])
    # Two pictures of 64 x 48, enlarged to min_pixels: 10 x 7 tokens of 28 x 28 pixels each.
    assert plan["tokens"]["pictures"] == 2 * (70 + 2)
    kept = 8 * 28 * 3584 * 2 * (plan["tokens"]["most"] + 512)  # one hidden state a layer
    assert kept < plan["memory"]["activations"] < 3 * kept
    assert not list(tmp_path.iterdir())


def test_processes_share(write_config, tiny):
    path = write_config(model=str(tiny["tiny"]), **GRPO)
    [one], [eight] = plan_runs("grpo", path), plan_runs("grpo", path, gpus=8)
    [shared] = plan_runs("grpo", path, launcher=EXAMPLES / "accelerate-zero3.yaml")
    assert eight.steps.questions == shared.steps.questions == 8 * one.steps.questions
    assert eight.memory.gradients == 2 * one.memory.gradients  # DDP sends them from a copy
    assert shared.memory.optimizer * 8 == pytest.approx(one.memory.optimizer, abs=8)
    assert shared.memory.weights < one.memory.weights == eight.memory.weights


def test_launchers():
    assert read_launcher(EXAMPLES / "accelerate-ddp-2nodes.yaml") == (16, "none")
    assert read_launcher(EXAMPLES / "accelerate-zero3.yaml") == (8, "zero3")
    assert read_launcher(EXAMPLES / "accelerate-fsdp2.yaml") == (8, "zero3")


def test_two_stages_and_their_tables(write_config, capsys, tiny):
    path = write_config(
        model=str(tiny["tiny"]),
        **{"cold-start": {"max_steps": 3, "lora": {"r": 2}}, "grpo": GRPO},
    )
    assert not status("train", "grpo", str(path), "--check")
    shown = capsys.readouterr().out
    assert shown.count("most of all") == 2 and "after sft" in shown
    first, second = plan_runs("grpo", path)
    assert first.memory.trained == second.memory.trained > 0  # the adapter that goes on
    assert not (path.parent / "run").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "some/other-model"}, "neither a folder nor a model in the local cache"),
        ({"num_generations": 5}, "num_generations: 5 does not divide"),
        ({"split": "cross-view/tran"}, "split: there is no cross-view/tran"),
    ],
)
def test_what_a_run_refuses_is_refused(write_config, capsys, values, message):
    path = write_config(**{**GRPO, **values})
    assert status("train", "grpo", str(path), "--check") == 2
    assert message in capsys.readouterr().err


def test_a_launcher_that_is_none(write_config, capsys, tmp_path):
    other = tmp_path / "launcher.yaml"
    other.write_text(yaml.safe_dump({"num_processes": "many"}))
    path = write_config(**GRPO)
    assert status("train", "grpo", str(path), "--check", "--accelerate", str(other)) == 2
    assert "launcher.yaml: num_processes: 'many' is no number" in capsys.readouterr().err

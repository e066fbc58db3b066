"""What is trained and by which loss: kinds of adapters, the vision tower, 4 bits, TRL's losses."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file

from star_tvr.scenes.errors import ConfigError
from star_tvr.training import grpo, sft
from star_tvr.training.config import load_train_config
from star_tvr.training.initial_model import load_initial_model
from star_tvr.training.models import in_decoder, load_adapter, load_model
from star_tvr.training.trl_arguments import trainer_arguments
from tests.training.conftest import read_log, write_document

FAMILIES = ("tiny", "tiny-idefics3")
STEPS: dict[str, Any] = {
    "max_steps": 2,
    "learning_rate": 0.01,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
}


# --- What is trained ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapters(tiny, dataset, tmp_path_factory) -> Callable[..., Path]:
    """A function of a family and `lora`'s keys to the run folder of two steps of SFT."""
    root = tmp_path_factory.mktemp("adapters")

    @cache
    def trained(family: str, *keys: tuple[str, Any], vision_tower: str | None = None) -> Path:
        name = "-".join([family, *(key for key, _ in keys), str(vision_tower)])
        values = {"model": str(tiny[family]), "output_dir": str(root / name), **STEPS}
        values |= {"lora": {"r": 4, "alpha": 8, **dict(keys)}, "vision_tower": vision_tower}
        return sft.run(write_document(root / f"{name}.yaml", dataset, values))

    return trained


def second_loss(run: Path) -> float:
    """The first loss to which the adapters contribute: they begin at 0."""
    return float(read_log(run)[1]["loss"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("keys", [("dropout", 0.5), ("rslora", True), ("dora", True)])
def test_kinds_of_adapters_learn_otherwise(adapters, tiny, family, keys):
    plain, other = adapters(family), adapters(family, keys)
    assert read_log(plain)[0]["loss"] == pytest.approx(read_log(other)[0]["loss"], rel=1e-4)
    assert second_loss(plain) != pytest.approx(second_loss(other), rel=1e-4)
    model = load_adapter(load_model(str(tiny[family])), str(other), trainable=False)
    scales = {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")}
    assert scales == {8 / 2 if keys[0] == "rslora" else 8 / 4}
    stored = load_file(other / "adapter_model.safetensors")
    assert any("magnitude" in name for name in stored) == (keys[0] == "dora")


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_of_the_vision_tower(adapters, tiny, family):
    base = load_model(str(tiny[family]))
    for run, wanted in (
        (adapters(family), {True}),
        (adapters(family, vision_tower="trained"), {True, False}),
    ):
        stored = load_file(run / "adapter_model.safetensors")
        learned = {n: w for n, w in stored.items() if "lora_B" in n}
        names = [name.removeprefix("base_model.model.") for name in learned]
        assert {in_decoder(base, name) for name in names} == wanted
        assert all(weight.abs().max() > 0 for weight in learned.values())
        adapted = {name.split(".lora_")[0] for name in names}
        linear = {n for n, m in base.named_modules() if isinstance(m, torch.nn.Linear)}
        if len(wanted) == 2:  # all but the output layer
            assert adapted == {n for n in linear if base.get_submodule(n) is not base.lm_head}


@pytest.mark.parametrize("family", FAMILIES)
def test_all_weights_but_the_vision_tower(tiny, write_config, family, tmp_path):
    path = write_config(model=str(tiny[family]), vision_tower="frozen", **{**STEPS, "max_steps": 1})
    before, after = (load_model(str(folder)) for folder in (tiny[family], sft.run(path)))
    changed = {
        name: not torch.equal(old, new)
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
    }
    inside = {name: in_decoder(before, name) or name == "lm_head.weight" for name in changed}
    assert not any(changed[name] for name, its in inside.items() if not its)
    assert any(changed[name] for name, its in inside.items() if its)
    assert len(set(inside.values())) == 2


def test_adapters_over_four_bits(tiny, write_config, dataset):
    bits = pytest.importorskip("bitsandbytes")
    path = write_config(model=str(tiny["tiny"]), lora={"r": 4}, quantization="4bit", **STEPS)
    config = load_train_config("sft", path)
    model, _ = load_initial_model(config, dataset.world, trainer_arguments(config))
    quantized = [n for n, m in model.named_modules() if isinstance(m, bits.nn.Linear4bit)]
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    assert quantized == [n for n in linear if in_decoder(model, n)] != linear
    run = sft.run(path)
    assert all(np.isfinite(line["loss"]) for line in read_log(run) if "loss" in line)
    stored = load_file(run / "adapter_model.safetensors")
    assert all(weight.abs().max() > 0 for name, weight in stored.items() if "lora_B" in name)
    load_adapter(load_model(str(tiny["tiny"])), str(run), trainable=False)  # the whole model's, too


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora": {"dropout": 1.0}}, "lora.dropout: "),
        ({"adapter": "x", "vision_tower": "trained"}, "vision_tower: leave it out, the adapter"),
        ({"lora": {"targets": "x"}, "vision_tower": "frozen"}, "vision_tower: leave it out, lora"),
        ({"quantization": "4bit"}, "quantization: weights of a few bits cannot be trained; add"),
        ({"quantization": "2bit"}, "quantization: '2bit' is not one of '4bit'"),
        (
            {"lora": {}, "model_init_kwargs": {"quantization_config": {"load_in_4bit": True}}},
            "quantization_config: write quantization: 4bit",
        ),
        ({"loss_type": "ppo"}, "loss_type: 'ppo' is not one of grpo, dapo, dr_grpo"),
        ({"scale_rewards": "std"}, "scale_rewards: 'std' is not one of group, batch, none"),
        ({"importance_sampling_level": "sequence"}, "loss_type dapo counts long .* is GSPO"),
        ({"loss_type": "luspo"}, "luspo needs importance_sampling_level: sequence"),
        ({"loss_type": "cispo"}, "epsilon_high: .*above 1"),
        ({"loss_type": "cispo", "epsilon_high": 0.28}, "epsilon_high: .*above 1"),
        (
            {"multi_objective_aggregation": "normalize_then_sum", "scale_rewards": "none"},
            "scale_rewards: does nothing with",
        ),
        (
            {"reward_weights": [1, 2], "reward": {"extra": {"reference": 1}}},
            "reward_weights: holds 2 numbers for 3 rewards: format, accuracy",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(write_config, values, message):
    path = write_config(**values)
    with pytest.raises(ConfigError, match=message) as info:
        load_train_config("grpo", path)
    assert str(info.value).startswith(f"{path}: ") and "\n" not in str(info.value)


# --- Losses ------------------------------------------------------------------------------------

METHODS: dict[str, dict[str, Any]] = {
    "dapo": {},
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "batch": {"loss_type": "grpo", "scale_rewards": "batch"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    "gdpo": {
        "multi_objective_aggregation": "normalize_then_sum",
        "reward_weights": [0.5, 2.0],
    },
}
GROUP = 4


@pytest.fixture(scope="module")
def losses(warm, dataset, tmp_path_factory) -> Callable[[str], list[dict[str, Any]]]:
    """A function of a method's name to the log of two steps on the same answers."""
    root = tmp_path_factory.mktemp("losses")

    @cache
    def trained(name: str) -> list[dict[str, Any]]:
        values = {
            "model": str(warm("tiny")),
            "output_dir": str(root / name),
            "lora": {"r": 4, "alpha": 8},
            "max_completion_length": 24,
            "num_generations": GROUP,
            "mask_truncated_completions": False,
            "num_iterations": 2,  # the second step has other weights than those that answered
            **STEPS,
            "per_device_train_batch_size": 2 * GROUP,
            "learning_rate": 0.03,
            **METHODS[name],
        }
        run = grpo.run(write_document(root / f"{name}.yaml", dataset, values))
        [table] = sorted(run.glob("completions/*00001.parquet"))
        log = read_log(run)
        log[0]["answers"] = pyarrow.parquet.read_table(table).to_pydict()
        return log

    return trained


Numbers = npt.NDArray[np.float64]


def advantages(method: dict[str, Any], rewards: Numbers) -> Numbers:
    """What an answer is worth, shape (answers,), of rewards of shape (answers, functions)."""

    def spread(values: Numbers, axis: int | None) -> Any:
        return values.std(axis=axis, ddof=1, keepdims=True) + 1e-4

    weights = np.array(method.get("reward_weights", [1.0, 1.0]))
    if method.get("multi_objective_aggregation") == "normalize_then_sum":  # GDPO, 2601.05242
        groups = rewards.reshape(-1, GROUP, rewards.shape[1])
        scaled = (groups - groups.mean(1, keepdims=True)) / spread(groups, 1)
        total = (scaled.reshape(rewards.shape) * weights).sum(1)
        return np.asarray((total - total.mean()) / spread(total, None))
    groups = (rewards * weights).sum(1).reshape(-1, GROUP)
    centred = groups - groups.mean(1, keepdims=True)
    scale = method.get("scale_rewards", "group")
    if scale != "none":
        centred = centred / spread(groups, 1 if scale == "group" else None)
    return centred.reshape(-1)


@pytest.mark.parametrize("name", METHODS)
def test_answers_are_worth_what_the_method_says(losses, name):
    answers = losses(name)[0]["answers"]
    rewards = np.array([answers["format_reward"], answers["accuracy_reward"]]).T
    assert len({tuple(r) for r in rewards.tolist()}) > 2
    wanted = advantages(METHODS[name], rewards)
    assert answers["advantage"] == pytest.approx(wanted, abs=1e-3)


def test_losses_differ_where_they_must(losses):
    first = {name: losses(name)[0] for name in METHODS}
    second = {name: losses(name)[1] for name in METHODS}
    texts = {json.dumps(line["answers"]["completion"], default=str) for line in first.values()}
    assert len(texts) == 1  # the same model, seed and questions
    # Right after answering, the weight of an answer and of its tokens are both 1.
    for name, plain in (("gspo", "grpo"), ("cispo", "dapo")):
        assert first[name]["grad_norm"] == pytest.approx(first[plain]["grad_norm"], rel=1e-3)
        assert second[name]["loss"] != pytest.approx(second[plain]["loss"], rel=1e-2)
    # Of answers weighted alike, the advantages of a group add up to 0; of tokens, they do not.
    assert first["grpo"]["loss"] == pytest.approx(0, abs=1e-4)
    assert abs(first["dapo"]["loss"]) > 1e-3
    norms = [first[name]["grad_norm"] for name in METHODS if name not in ("gspo", "cispo")]
    assert len({round(norm, 4) for norm in norms}) == len(norms)
    assert "cispo_clip_ratio" in first["cispo"] and "clip_ratio/region_mean" in first["dapo"]

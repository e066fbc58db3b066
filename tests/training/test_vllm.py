"""GRPO with answers of a real vLLM, its build for CPUs: `nox -s vllm` installs and runs this."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from tests.training.conftest import read_log

pytest.importorskip("vllm", reason="vLLM is not installed; nox -s vllm")

SETTINGS = {
    "use_vllm": True,
    "vllm_mode": "colocate",
    "vllm_max_model_length": 512,
    "lora": {"r": 4},
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "max_completion_length": 8,
    "mask_truncated_completions": False,
}

ENVIRONMENT = {
    "TORCH_COMPILE_DISABLE": "1",  # compiling takes minutes
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


@pytest.fixture
def wide(tiny, tmp_path):
    """Make the tiny model of a family with heads 32 wide, the least that vLLM has for CPUs."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    def build(family):
        folder = shutil.copytree(tiny[family], tmp_path / family)
        config = AutoConfig.from_pretrained(folder)
        text = config.text_config
        text.num_attention_heads, text.num_key_value_heads, text.head_dim = 2, 1, 32
        if "mrope_section" in text.rope_parameters:
            text.rope_parameters["mrope_section"] = [4, 6, 6]
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
        return str(folder)

    return build


def train(path) -> "subprocess.CompletedProcess[str]":
    """Train in a process of its own: vLLM is started once in each."""
    command = [sys.executable, "-m", "star_tvr.training.grpo", str(path)]
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_vllm_draws_the_answers_that_the_trainer_scores(wide, write_config, tmp_path):
    """Pictures are scaled up on the way, which vLLM must be told."""
    values = {**SETTINGS, "model": wide("tiny"), "processor": {"min_pixels": 6272}}
    done = train(write_config(**values))
    assert done.returncode == 0, done.stderr[-3000:]
    for line in read_log(tmp_path / "run")[:2]:
        assert 0.9 < line["sampling/importance_sampling_ratio/mean"] < 1.1  # bfloat16

"""The check of a GPU, on the CPU with the tiny model; and that its shapes are the real ones."""

import json
from pathlib import Path

import pytest
import torch

from examples.gpu_check import main
from star_tvr.training.models import build_skeleton
from star_tvr.training.skeletons import SHAPES, qwen_config

EXAMPLES = Path(__file__).parents[2] / "examples" / "train"


def test_the_figures(write_config, tmp_path, capsys):
    path = write_config(
        lora={"r": 2},
        per_device_train_batch_size=4,
        num_generations=2,
        gradient_accumulation_steps=2,
        max_completion_length=6,
    )
    assert main([str(path), "--steps=1"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["questions_a_step"] == 4 and figures["completions_a_step"] == 8
    assert 0 < figures["seconds_answering"] < figures["seconds_a_step"]
    assert 0 < figures["own_share"] < 1 and figures["estimated_gib"] > 0
    assert figures["peak_gib"] is None and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "parameters"), [("3b", 3.75e9), ("7b", 8.29e9)])
def test_the_shapes_have_the_published_number_of_parameters(name, parameters):
    model = build_skeleton(qwen_config(name))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.01)
    assert set(SHAPES) == {"3b", "7b"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_refused_at_once(capsys):
    assert main([str(EXAMPLES / "qwen2.5-vl-7b-8gpu.yaml")]) == 2
    assert "sees no GPU here" in capsys.readouterr().err


def test_no_data_set(write_config, capsys, tmp_path):
    assert main([str(write_config(dataset=str(tmp_path)))]) == 2
    assert "is not a data set folder" in capsys.readouterr().err

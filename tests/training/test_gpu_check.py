"""The check of a GPU, on the CPU with the tiny model; and that its shapes are the real ones."""

import json

import pytest
import torch

from examples.gpu_check import SHAPES, build, main


@pytest.fixture(scope="module")
def figures(dataset, tmp_path_factory):
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        small = ["--steps=1", "--tokens=6", "--batch=4", "--generations=2"]
        assert main([str(dataset.root), "--model=tiny", *small]) == 0
    return json.loads(printed.getvalue().splitlines()[-1])


def test_the_figures(figures):
    assert figures["tokens"] == 6 and figures["questions_a_step"] == 2
    assert 0 < figures["seconds_answering"] < figures["seconds_a_step"]
    assert 0 < figures["own_share"] < 1
    assert (figures["peak_gib"] is None) == (not torch.cuda.is_available())


@pytest.mark.parametrize(("name", "parameters"), [("3b", 3.75e9), ("7b", 8.29e9)])
def test_the_shapes_have_the_published_number_of_parameters(name, parameters, tiny, monkeypatch):
    device = torch.device
    monkeypatch.setattr(torch, "device", lambda _: device("meta"))
    model = build(name, tiny["tiny"], "sdpa", True)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.01)
    assert set(SHAPES) == {"3b", "7b"}


def test_no_data_set(capsys, tmp_path):
    assert main([str(tmp_path)]) == 2
    assert "is not a data set folder" in capsys.readouterr().err

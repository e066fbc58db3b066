"""The small data set, tiny models to train on it, and configurations."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_tvr.schemas.dataset import Dataset
from star_tvr.training import sft
from star_tvr.training.config import TINY
from star_tvr.training.tiny_models import build_tiny
from tests.training.discs import make_dataset

SFT = {"max_steps": 16, "learning_rate": 0.01, "per_device_train_batch_size": 6, "logging_steps": 1}
"""A training after which a tiny model knows the form of an answer, and some of its words."""


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Dataset:
    """The small data set; nobody writes to it."""
    return make_dataset(tmp_path_factory.mktemp("data") / "discs")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, dataset) -> dict[str, Path]:
    """The folder of an untrained tiny model of each family."""
    root = tmp_path_factory.mktemp("models")
    return {name: build_tiny(name, root / name, dataset.world, seed=1) for name in TINY}


@pytest.fixture
def write_config(tmp_path, dataset):
    """Write a training configuration for the small data set and return its path."""

    def write(name="config.yaml", **values) -> Path:
        return write_document(
            tmp_path / name, dataset, {"output_dir": str(tmp_path / "run"), **values}
        )

    return write


def write_document(path: Path, dataset: Dataset, values) -> Path:
    """Write a training configuration with these values, by default for `dataset`."""
    document = {
        "model": "tiny",
        "dataset": str(dataset.root),
        "split": "cross-view/train",
        "prompt": {"style": "compact", "location": "cell"},
        "use_cpu": True,
        "report_to": "none",
        "seed": 3,
        **values,
    }
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="session")
def warm(tmp_path_factory, dataset) -> Callable[[str], Path]:
    """A function of a family's name to the run folder of its short SFT, all weights."""
    root = tmp_path_factory.mktemp("warm")

    @cache
    def trained(family: str) -> Path:
        values = {"model": family, "output_dir": str(root / family), **SFT}
        return sft.run(write_document(root / f"{family}.yaml", dataset, values))

    return trained


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `log.jsonl`."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]

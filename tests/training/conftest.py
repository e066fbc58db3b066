"""The small data set, tiny models to train on it, and configurations."""

from pathlib import Path

import pytest
import yaml

from schemas.dataset import Dataset
from tests.training.discs import make_dataset
from training.models import TINY, build_tiny


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
        document = {
            "model": "tiny",
            "dataset": str(dataset.root),
            "split": "cross-view/train",
            "output_dir": str(tmp_path / "run"),
            "prompt": {"style": "compact", "location": "cell"},
            "use_cpu": True,
            "report_to": "none",
            "seed": 3,
            **values,
        }
        path = tmp_path / name
        path.write_text(yaml.safe_dump(document))
        return path

    return write

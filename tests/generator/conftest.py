"""Data sets rendered once for all tests of a process; nobody writes to them."""

import shutil
from pathlib import Path

import pytest

from tests.generator.command import SMALL, SMALLEST, render


@pytest.fixture(scope="session")
def star(tmp_path_factory) -> Path:
    """Eight samples of the preset star at 64 x 48."""
    root = tmp_path_factory.mktemp("star") / "data"
    render(root, "--num-samples", "8", "--workers", "2", overrides=SMALL)
    return root


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Ten samples of the preset basic at 32 x 24, in two views each."""
    root = tmp_path_factory.mktemp("tiny") / "data"
    render(root, "--config", "basic", "--num-samples", "10", "--workers", "1", overrides=SMALLEST)
    return root


@pytest.fixture
def copy(star, tmp_path) -> Path:
    """A copy of `star` to damage."""
    return Path(shutil.copytree(star, tmp_path / "copy"))

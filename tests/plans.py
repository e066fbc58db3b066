"""Data sets of plans alone, made in no time."""

from pathlib import Path

from star_tvr.generator.plan_files import plan_line
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.dataset import Dataset, Manifest, dumps


def write_dataset(root: Path, config: DatasetConfig, lines: list[str] | None = None) -> Dataset:
    """What `tvr render --plan-only` leaves; with other lines than its own if they are given."""
    sampler = Sampler.from_config(config)
    lines = lines or [plan_line(sampler, i) for i in range(config.num_samples)]
    (root / "plans").mkdir(parents=True)
    (root / "plans" / "00000.jsonl").write_text("".join(lines))
    (root / "dataset.json").write_text(dumps(Manifest.of(config, {}).to_json()))
    return Dataset.open(root)


def first_plans(config: DatasetConfig, number: int) -> list[Plan]:
    """The first plans of a configuration."""
    sampler = Sampler.from_config(config)
    return [sampler.plan(i) for i in range(number)]

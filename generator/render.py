"""What a rendering is asked for, and what of it is missing.

Samples are committed whole, so an interrupted run goes on where it stopped.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_tvr.generator.blender_process import RenderJob
from star_tvr.generator.plan_files import config_of_plans, read_jobs, stored_job
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import ConfigError, ParameterError
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import change_config, load_config
from star_tvr.schemas.dataset import (
    Dataset,
    refuse_other_config,
    remove_drafts,
    rendered,
    sample_folder,
    sample_id,
)
from star_tvr.schemas.files import writing
from star_tvr.schemas.folders import differences
from star_tvr.schemas.locks import lock_folder
from star_tvr.schemas.records import SCHEMA_VERSION

SHOWN = ("world", "image", "render", "masks", "depth", "normals")
"""Blocks and keys of a configuration that show in the files of a sample whose plan is given."""

DIGITS = 18
"""The longest number of a sample that is taken for one."""


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` parts of a data set: a stretch of neighbouring samples.

    Raises:
        ParameterError: the index is not from 0 to count - 1.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse a part that there is not."""
        if not 0 <= self.index < self.count:
            shown = f"{self.index}/{self.count}"
            raise ParameterError("shard", "the index goes from 0 to the count less one", shown)

    def indices(self, total: int) -> range:
        """The samples of this part.

        >>> [list(Shard(k, 3).indices(7)) for k in range(3)]
        [[0, 1], [2, 3], [4, 5, 6]]
        """
        return range(total * self.index // self.count, total * (self.index + 1) // self.count)


def shorten(text: str) -> str:
    """A number as it can be shown in one line, however long it is."""
    return text if len(text) <= DIGITS else f"{text[:DIGITS]}…"


@dataclass(frozen=True)
class RenderRequest:
    """What a command asks for: a folder, a configuration, and which samples.

    Attributes:
        config: a preset or file; None for that of the folder, for a new one that which the plans
            were made with, or `star`.
        overrides: `key=value`.
        shard: a part of the samples.
        only: numbers of samples; None for all of the shard.
        plans: a file that plans are read from; its samples are those that are made.
        force: make those again that are there.
    """

    out: Path
    config: str | None = None
    overrides: Sequence[str] = ()
    shard: Shard = Shard()
    only: Sequence[int] | None = None
    plans: Path | None = None
    force: bool = False

    def resolve(self) -> tuple[DatasetConfig, list[RenderJob], int]:
        """The resolved configuration, what is to be made, and how many samples were asked for.

        Nothing is written.

        Raises:
            ConfigError: wrong options, or a configuration that cannot be met here.
            DataError: the folder or the file of plans cannot be used.
        """
        config = self.configuration()
        wanted = self.indices(config)
        if self.plans is None:
            return config, jobs_to_render(self.out, config, wanted, self.force), len(wanted)
        part = set(wanted)
        read = read_jobs(self.plans, config.world)
        read = [job for job in read if self.only is None or job.index in part]
        indices = [job.index for job in read]
        left = jobs_to_render(self.out, config, indices, source=self.plans)
        missing = {job.index for job in left}
        chosen = [job for job in read if job.index in part]  # where there is a shard, its own
        jobs = [job for job in chosen if self.force or job.index in missing]
        return config, jobs, len(chosen)

    def configuration(self) -> DatasetConfig:
        """The resolved configuration. Raises as `resolve`."""
        if self.config is None and (self.out / "dataset.json").exists():
            return change_config(
                Dataset.open(self.out).config, self.overrides, self.out / "dataset.json"
            )
        if self.config is None and self.plans is not None:
            former = config_of_plans(self.plans)
            if former is None:
                raise ParameterError(
                    "plans",
                    "its preset does not come with the project, and no dataset.json lies above it; "
                    "name the configuration with --config",
                    str(self.plans),
                )
            return change_config(former, self.overrides, self.plans)
        return load_config(self.config or "star", self.overrides)

    def changes(self, config: DatasetConfig) -> dict[str, tuple[Any, Any]]:
        """Settings by which samples of `plans` come out as they were not: (former, now), by key.

        Raises:
            TvrError: the file of plans, or the data set that it is from, cannot be used.
        """
        former = config_of_plans(self.plans) if self.plans else None
        if former is None:
            return {}
        return {
            key: both
            for key, both in differences(former.to_json(), config.to_json()).items()
            if key.split(".")[0] in SHOWN
        }

    def indices(self, config: DatasetConfig) -> Sequence[int]:
        """The numbers of the samples that are asked for, there or not."""
        if self.only is None:
            return self.shard.indices(config.num_samples)
        if self.shard.count > 1:
            raise ParameterError("only", "does not go with shard")
        return sorted(set(self.only))


@contextmanager
def lock_samples(out: Path, indices: Sequence[int], force: bool = False) -> Iterator[None]:
    """Let nobody make these samples anew, or at all if we do; what a killed run left of them goes.

    Commands that make what is missing may have samples in common: whichever is first commits them.

    Raises:
        ConfigError: somebody else is at it, who is named.
        DataError: the folder cannot be written.
    """
    part = range(min(indices), max(indices) + 1) if indices else range(0)

    def clean() -> None:
        with writing(out):
            remove_drafts(out, [sample_id(index) for index in indices])

    with lock_folder(out, part, shared=not force, clean=clean):
        yield


def jobs_to_render(
    out: Path,
    config: DatasetConfig,
    only: Collection[int] | None = None,
    force: bool = False,
    source: Path | None = None,
) -> list[RenderJob]:
    """Check configuration and folder, and say what is to be made. Nothing is written.

    Args:
        only: numbers of samples; by default all of them.
        force: make those again that are there, each after its own `sample.json`.
        source: the file that names these samples, for errors.

    Raises:
        ConfigError: the configuration cannot be met, the folder was made with another one or
            holds something else, or one of these samples does not belong to it.
        DataError: the folder's manifest is damaged.
    """
    Sampler.from_config(config)
    former = refuse_other_config(out, config)
    total = config.num_samples
    for index in only or ():
        if not 0 <= index < total:
            name = shorten(sample_id(index))
            message = f"the samples are 000000 to {sample_id(total - 1)}; raise num_samples"
            if source is not None:
                raise ConfigError(f"{source}: id {name}: {message}")
            raise ParameterError("only", message, name)
    mine = range(total) if only is None else sorted(only)
    if force:
        jobs = [stored_job(out, index, config.world) for index in mine]
    else:
        whole = {s for s in rendered(out) if (sample_folder(out, s) / "sample.json").is_file()}
        jobs = [RenderJob(index) for index in mine if sample_id(index) not in whole]
    if jobs and former is not None and former.schema_version != SCHEMA_VERSION:
        raise ConfigError(
            f"{out}: was begun by an earlier version, which chose other scenes (schema_version "
            f"{former.schema_version}, now {SCHEMA_VERSION}); render to another folder"
        )
    return jobs

"""What a rendering is asked for, and what of it is missing.

Samples are committed whole, so an interrupted run goes on where it stopped.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from star_tvr.generator.blender_process import RenderJob
from star_tvr.generator.plan_files import read_jobs, stored_job
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import change_config, load_config
from star_tvr.schemas.dataset import (
    Dataset,
    rendered,
    sample_folder,
    sample_id,
)
from star_tvr.schemas.folders import refuse_other, was_begun

DIGITS = 18
"""The longest number of a sample that is taken for one."""


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` parts of a data set: a stretch of neighbouring samples."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `I/N`.

        >>> Shard.parse("1/4")
        Shard(index=1, count=4)

        Raises:
            ConfigError: the text has another form, or I is not below N.
        """
        first, slash, second = text.partition("/")
        if not (slash and first.isdecimal() and second.isdecimal() and int(first) < int(second)):
            raise ConfigError(f"--shard {text}: write I/N with I from 0 to N-1, for example 0/4")
        return cls(int(first), int(second))

    def indices(self, total: int) -> range:
        """The samples of this part.

        >>> [list(Shard(k, 3).indices(7)) for k in range(3)]
        [[0, 1], [2, 3], [4, 5, 6]]
        """
        return range(total * self.index // self.count, total * (self.index + 1) // self.count)


def parse_ids(text: str) -> list[int]:
    """Read a list of samples, such as `000017` or `17,21`.

    >>> parse_ids("000017, 3")
    [3, 17]

    Raises:
        ConfigError: a part of it is no number, or too long for one.
    """
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdecimal() and len(part) <= DIGITS):
            raise ConfigError(
                f"--only {_short(part)}: write numbers of samples, for example 000017,000021"
            )
    return sorted({int(part) for part in parts})


def _short(text: str) -> str:
    return text if len(text) <= DIGITS else f"{text[:DIGITS]}…"


@dataclass(frozen=True)
class RenderRequest:
    """What a command asks for: a folder, a configuration, and which samples.

    Attributes:
        config: a preset or file; None for that of the folder, or `star` for a new one.
        overrides: `key=value`.
        shard: `I/N`.
        only: numbers of samples, `17,21`; None for all of the shard.
        plans: a file that plans are read from; its samples are those that are made.
        force: make those again that are there.
    """

    out: Path
    config: str | None = None
    overrides: Sequence[str] = ()
    shard: str = "0/1"
    only: str | None = None
    plans: Path | None = None
    force: bool = False

    def resolve(self) -> tuple[DatasetConfig, list[RenderJob], int]:
        """The resolved configuration, what is to be made, and how many samples were asked for.

        Nothing is written.

        Raises:
            ConfigError: wrong options, or a configuration that cannot be met here.
            DataError: the folder or the file of plans cannot be used.
        """
        if self.config is None and (self.out / "dataset.json").exists():
            former = Dataset.open(self.out).config
            config = change_config(former, self.overrides, self.out / "dataset.json")
        else:
            config = load_config(self.config or "star", self.overrides)
        wanted = self.indices(config)
        if self.plans is None:
            return config, jobs_to_render(self.out, config, wanted, self.force), len(wanted)
        part = set(wanted)
        read = read_jobs(self.plans, config.world)
        read = [job for job in read if self.only is None or job.index in part]
        indices = [job.index for job in read]
        left = jobs_to_render(self.out, config, indices, source=f"{self.plans}: id")
        missing = {job.index for job in left}
        chosen = [job for job in read if job.index in part]  # where there is a shard, its own
        jobs = [job for job in chosen if self.force or job.index in missing]
        return config, jobs, len(chosen)

    def indices(self, config: DatasetConfig) -> Sequence[int]:
        """The numbers of the samples that are asked for, there or not."""
        part = Shard.parse(self.shard)
        if self.only is None:
            return part.indices(config.num_samples)
        if part.count > 1:
            raise ConfigError("--only: does not go with --shard")
        return parse_ids(self.only)


def jobs_to_render(
    out: Path,
    config: DatasetConfig,
    wanted: Collection[int] | None = None,
    force: bool = False,
    source: str = "--only",
) -> list[RenderJob]:
    """Check configuration and folder, and say what is to be made. Nothing is written.

    Args:
        wanted: numbers of samples; by default all of them.
        force: make those again that are there, each after its own `sample.json`.
        source: where the wanted samples are named, for errors.

    Raises:
        ConfigError: the configuration cannot be met, the folder was made with another one or
            holds something else, or a wanted sample does not belong to it.
        DataError: the folder's manifest is damaged.
    """
    Sampler.from_config(config)
    if was_begun(out, "dataset.json"):  # what changes no sample may differ
        former = Dataset.open(out).config.to_json()
        refuse_other(out, former, config.to_json(), free=("num_samples", "tries"))
    total = config.num_samples
    for index in wanted or ():
        if index >= total:
            raise ConfigError(
                f"{source} {_short(sample_id(index))}: the samples are 000000 to "
                f"{sample_id(total - 1)}; raise num_samples"
            )
    mine = range(total) if wanted is None else sorted(wanted)
    if force:
        world = config.world
        return [stored_job(out, index, world) for index in mine]
    whole = {s for s in rendered(out) if (sample_folder(out, s) / "sample.json").is_file()}
    return [RenderJob(index) for index in mine if sample_id(index) not in whole]

"""Rendering a data set: what is missing, who makes it, and what to do when a worker dies.

Blender lives in worker processes only. A worker that dies is replaced and its sample is made
again; samples are committed whole, so an interrupted run goes on where it stopped.
"""

import json
import os
import platform
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from star_tvr.generator.errors import RenderError
from star_tvr.generator.process import BlenderProcess, Job, Made, Options
from star_tvr.generator.stored import read_jobs, stored_job
from star_tvr.scenes.errors import ConfigError, DataError, PlanError, TvrError
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.world import World
from star_tvr.schemas.config import Config, change_config, load_config
from star_tvr.schemas.dataset import (
    Dataset,
    dumps,
    manifest,
    rendered,
    sample_folder,
    sample_id,
    write_whole,
)
from star_tvr.schemas.folders import differences

TOO_MANY = 5
"""Samples that may fail before a run in which more fail than succeed is stopped."""

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
class Request:
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

    def resolve(self) -> tuple[Config, list[Job], int]:
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
            return config, prepare(self.out, config, wanted, self.force), len(wanted)
        part = set(wanted)
        read = read_jobs(self.plans, World.from_config(config["world"]))
        read = [job for job in read if self.only is None or job.index in part]
        indices = [job.index for job in read]
        missing = {j.index for j in prepare(self.out, config, indices, source=f"{self.plans}: id")}
        chosen = [job for job in read if job.index in part]  # where there is a shard, its own
        jobs = [job for job in chosen if self.force or job.index in missing]
        return config, jobs, len(chosen)

    def indices(self, config: Config) -> Sequence[int]:
        """The numbers of the samples that are asked for, there or not."""
        part = Shard.parse(self.shard)
        if self.only is None:
            return part.indices(config["num_samples"])
        if part.count > 1:
            raise ConfigError("--only: does not go with --shard")
        return parse_ids(self.only)


def prepare(
    out: Path,
    config: Config,
    wanted: Collection[int] | None = None,
    force: bool = False,
    source: str = "--only",
) -> list[Job]:
    """Check configuration and folder, and say what is to be made. Nothing is written.

    Args:
        wanted: numbers of samples; by default all of them.
        force: make those again that are there, each after its own `sample.json`.
        source: where the wanted samples are named, for errors.

    Raises:
        ConfigError: the configuration cannot be met, the folder was made with another one, or
            a wanted sample does not belong to it.
        DataError: the folder holds something else.
    """
    Sampler.from_config(config)
    if (out / "dataset.json").exists():
        _refuse_difference(Dataset.open(out).config, config, out)
    elif out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file; name a folder")
    elif out.exists() and any(out.iterdir()):
        raise DataError(f"{out}: is not empty and is no data set; name another folder")
    total = config["num_samples"]
    for index in wanted or ():
        if index >= total:
            raise ConfigError(
                f"{source} {_short(sample_id(index))}: the samples are 000000 to "
                f"{sample_id(total - 1)}; raise num_samples"
            )
    mine = range(total) if wanted is None else sorted(wanted)
    if force:
        world = World.from_config(config["world"])
        return [stored_job(out, index, world) for index in mine]
    whole = {s for s in rendered(out) if (sample_folder(out, s) / "sample.json").is_file()}
    return [Job(index) for index in mine if sample_id(index) not in whole]


def open_folder(out: Path, config: Config) -> None:
    """Make the folder and write its manifest, which covers what was asked for before, too.

    Raises:
        DataError: it cannot be written.
    """
    path = out / "dataset.json"
    document = manifest(config, _versions())
    if path.exists():
        former = Dataset.open(out).manifest
        if config["num_samples"] <= former["config"]["num_samples"]:
            return
        # What is there was made by the versions that are named there.
        document = {**former, **{k: document[k] for k in ("config", "counts")}}
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, dumps(document))
    except OSError as problem:
        raise DataError(f"{out}: cannot be written ({problem.strerror})") from None


Executor = Callable[[Path, Config, Sequence[Job], int | None, Options], Iterator[Made]]


def executors(name: str, address: str | None = None) -> Executor:
    """The function that renders as `--executor` says.

    Raises:
        ConfigError: the name is unknown, or the address goes with another executor.
    """
    if name == "ray":
        from star_tvr.generator import ray_executor  # it imports this module

        return partial(ray_executor.render, address=address)
    if name != "local":
        raise ConfigError(f"--executor {name}: known are local, ray")
    if address is not None:
        raise ConfigError("--address: goes with --executor ray only")
    return render


def cores() -> int:
    """The processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def render(
    out: Path,
    config: Config,
    jobs: Sequence[Job],
    workers: int | None = None,
    options: Options | None = None,
) -> Iterator[Made]:
    """Make samples, yielding each as it is committed, in the order of completion.

    Stopping the iteration stops the workers; what is committed stays.

    Args:
        workers: Blender processes, by default for all cores; where there are several, each has
            one GPU.

    Raises:
        ConfigError: the device does not exist.
        DataError: a sample cannot be written.
        RenderError, PlanError: samples could not be made; all others were made first, unless more
            failed than did not.
    """
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)
    results: queue.SimpleQueue[Made | Exception | None] = queue.SimpleQueue()
    room = workers or max(1, cores() // config["render"]["threads"])
    size = max(1, min(room, len(jobs)))
    crew: list[_Worker] = []
    failures = Failures(len(jobs))
    at_work = size
    try:
        for k in range(size):
            process = BlenderProcess(out, config, options or Options(), k if size > 1 else None)
            worker = _Worker(out, config, process, todo, results)
            worker.start()
            crew.append(worker)
        while at_work:
            result = results.get()
            if result is None:
                at_work -= 1
            elif isinstance(result, Made):
                failures.made += 1
                yield result
            else:
                failures.add(result)
    finally:
        for worker in crew:
            worker.stop()
        for worker in crew:
            worker.join()
    failures.report()


@dataclass
class Failures:
    """The samples that could not be made, reported together once the others are.

    Attributes:
        asked: number of samples to make.
        made: number of samples that were.
    """

    asked: int
    made: int = 0
    errors: list[Exception] = field(default_factory=list)

    def add(self, error: Exception) -> None:
        """Note a sample that failed; raise at once for what is no sample's fault.

        Also raises when more than a few samples have failed, and more than were made.
        """
        if not isinstance(error, PlanError | RenderError):
            raise error
        self.errors.append(error)
        if len(self.errors) > max(TOO_MANY, self.made):
            self.report()

    def report(self) -> None:
        """Raise the first error, if there is one, saying how many more samples failed.

        Without an error, fewer samples than asked for are one.
        """
        if self.errors:
            others = len(self.errors) - 1
            more = f" (and {others} more failed)" if others else ""
            raise type(self.errors[0])(f"{self.errors[0]}{more}")
        if self.made < self.asked:
            raise RenderError(
                f"{self.made} of {self.asked} samples were made; run the same command again"
            )


class _Worker(threading.Thread):
    """A thread that keeps one Blender process busy."""

    def __init__(
        self,
        out: Path,
        config: Config,
        process: BlenderProcess,
        todo: "queue.SimpleQueue[Job]",
        results: "queue.SimpleQueue[Made | Exception | None]",
    ) -> None:
        super().__init__(daemon=True)
        self.out, self.config, self.process = out, config, process
        self.todo, self.results = todo, results
        self.stopping = False

    def run(self) -> None:
        try:
            self.process.start()
            open_folder(self.out, self.config)
            while not self.stopping:
                try:
                    job = self.todo.get_nowait()
                except queue.Empty:
                    break
                self.results.put(self._make(job))
            self.process.close()
        except Exception as problem:  # whatever it is, the main thread raises it
            self.results.put(problem)
        finally:
            self.stop()
            self.results.put(None)

    def stop(self) -> None:
        """End the process; its unfinished sample leaves no trace in the data set."""
        self.stopping = True
        self.process.stop()

    def _make(self, job: Job) -> Made | TvrError:
        try:
            return self.process.make(job)
        except TvrError as problem:
            return problem


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("star-tvr", "bpy", "numpy", "scipy", "pillow"):
        with suppress(PackageNotFoundError):  # plans alone are made without Blender
            found[package] = version(package)
    return found


def _refuse_difference(former: Config, config: Config, out: Path) -> None:
    """Only what changes no sample may differ between two runs into one folder."""
    for key, (old, new) in sorted(differences(former, config).items()):
        if key not in ("num_samples", "tries"):
            raise ConfigError(
                f"{out}: was made with {key} = {json.dumps(old)}, now it is {json.dumps(new)}; "
                f"use the same configuration or another folder"
            )

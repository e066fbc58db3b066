"""Rendering on a Ray cluster: an actor is one Blender process, a task a stretch of samples.

Actors hand the files of their samples back, and only the driver writes to the data set: nodes
need no common file system, but this project at the same version. Ray is an extra, imported when
it is used.
"""

import os
import shutil
import signal
import socket
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from star_tvr.generator.blender import DEVICES
from star_tvr.generator.errors import RenderError
from star_tvr.generator.process import STARTUP, TRIES, BlenderProcess, Job, Made, Options
from star_tvr.generator.render import Failures, open_folder
from star_tvr.generator.storage import store
from star_tvr.scenes.errors import ConfigError, TvrError
from star_tvr.schemas.config import Config
from star_tvr.schemas.dataset import sample_folder, sample_id

MOST = 8
"""Samples in a task; fewer where there are few for every actor."""

Result = tuple[Made, dict[str, bytes]] | TvrError
Range = tuple[Job, ...]


class Actor:
    """What runs on a node: one Blender process, and a folder for what it makes."""

    def __init__(self, config: Config, options: Options) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="tvr-ray-")
        self.root = Path(self.folder.name) / "data"
        self.process = BlenderProcess(self.root, config, options)

    def start(self) -> TvrError | None:
        """Start Blender; what is wrong, if it cannot."""
        try:
            self.process.start()
        except TvrError as problem:
            return problem
        return None

    def make(self, jobs: Range) -> list[Result]:
        """Make samples: each with its files by name, or why it could not be made."""
        results: list[Result] = []
        for job in jobs:
            try:
                made = self.process.make(job)
            except TvrError as problem:
                results.append(problem)
                continue
            folder = sample_folder(self.root, sample_id(job.index))
            results.append((made, {p.name: p.read_bytes() for p in sorted(folder.iterdir())}))
            shutil.rmtree(folder)
        return results


def render(
    out: Path,
    config: Config,
    jobs: Sequence[Job],
    workers: int | None = None,
    options: Options | None = None,
    address: str | None = None,
) -> Iterator[Made]:
    """Make samples on a cluster, yielding each as it is committed, in the order of completion.

    Args:
        workers: actors; by default as many as the cluster has room for.
        address: of a running cluster, `auto` for the one of this machine, None to start one.

    Raises:
        ConfigError: Ray is not installed, no cluster is there, or it is too small.
        DataError: a sample cannot be written.
        RenderError: a sample could not be made.
        PlanError: samples could not be planned; all others were made first, unless many failed.
    """
    options = options or Options()
    threads = config["render"]["threads"]
    ray = _connect(address, threads * (workers or 0))
    try:
        crew = _Crew(ray, config, options, workers, len(jobs))
        open_folder(out, config)
        yield from crew.run(out, jobs)
    finally:
        ray.shutdown()


def _connect(address: str | None, processors: int) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = import_module("ray")
    except ImportError:
        raise ConfigError("--executor ray: needs Ray: pip install 'star-tvr[ray]'") from None
    if address is not None and ":" in address:
        _knock(address)
    handler = signal.getsignal(signal.SIGTERM)
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address is None:
            count = processors or None
            ray.init(address="local", num_cpus=count, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as problem:  # Ray raises just that when a node is too slow to start
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise ConfigError(f"--address {address or 'local'}: no Ray cluster ({reason})") from None
    finally:
        if signal.getsignal(signal.SIGTERM) is not handler:
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end without cleaning up
    return ray


def _knock(address: str) -> None:
    """See whether anybody is there; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as problem:
        raise ConfigError(f"--address {address}: no Ray cluster ({problem})") from None


class _Crew:
    """The actors of a run: who is starting, who is idle, who is busy with what."""

    def __init__(
        self, ray: Any, config: Config, options: Options, workers: int | None, jobs: int
    ) -> None:
        self.ray, self.config, self.options = ray, config, options
        there = ray.cluster_resources()
        threads = config["render"]["threads"]
        gpus = options.device in DEVICES or (options.device == "auto" and there.get("GPU", 0) >= 1)
        self.needs = {"num_cpus": threads, "num_gpus": int(gpus)}
        room = int(there.get("CPU", 0) // threads)
        if gpus:
            room = min(room, int(there.get("GPU", 0)))
        if room < 1:
            wanted = f"{threads} CPUs{' and a GPU' if gpus else ''}"
            raise ConfigError(f"--executor ray: no place in the cluster has {wanted}")
        self.size = max(1, min(workers or room, room, jobs))
        self.remote = ray.remote(Actor)
        self.starting: dict[Any, Any] = {}
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, Range]] = {}
        self.deaths: Counter[int] = Counter()
        self.false_starts = 0
        self.worked = time.monotonic()

    def run(self, out: Path, jobs: Sequence[Job]) -> Iterator[Made]:
        """Make all samples."""
        length = max(1, min(MOST, len(jobs) // (2 * self.size)))
        todo = deque(tuple(jobs[k : k + length]) for k in range(0, len(jobs), length))
        failures = Failures(len(jobs))
        try:
            while todo or self.busy:
                self._employ(todo)
                for result in self._collect(todo):
                    if isinstance(result, tuple):
                        made, files = result
                        store(out, sample_id(made.index), files)
                        failures.made += 1
                        yield made
                    else:
                        failures.add(result)
        finally:
            busy = [actor for actor, _ in self.busy.values()]
            for actor in [*self.starting.values(), *self.idle, *busy]:
                self.ray.kill(actor)
        failures.report()

    def _employ(self, todo: "deque[Range]") -> None:
        """Give work to who is idle; start actors for those that are gone."""
        while self.idle and todo:
            actor, jobs = self.idle.pop(), todo.popleft()
            self.busy[actor.make.remote(jobs)] = (actor, jobs)
        while todo and len(self.starting) + len(self.idle) + len(self.busy) < self.size:
            actor = self.remote.options(**self.needs, max_restarts=0).remote(
                self.config, self.options
            )
            self.starting[actor.start.remote()] = actor

    def _collect(self, todo: "deque[Range]") -> list[Result]:
        """Wait for a message, and take it in; the samples of dead actors are to be done again."""
        waiting = [*self.starting, *self.busy]
        done, _ = self.ray.wait(waiting, num_returns=1, timeout=5.0)
        if done or self.busy:
            self.worked = time.monotonic()
        elif time.monotonic() - self.worked > STARTUP:
            raise RenderError("Ray: no actor could be started; is the cluster busy with others?")
        results: list[Result] = []
        for message in done:
            actor, jobs = self.busy.pop(message, (None, ()))
            actor = actor or self.starting.pop(message)
            try:
                answer = self.ray.get(message)
            except (self.ray.exceptions.RayActorError, self.ray.exceptions.ObjectLostError) as end:
                self.ray.kill(actor)
                self._mourn(jobs, todo, str(end))
                continue
            if isinstance(answer, TvrError):
                raise answer
            self.false_starts = 0
            self.idle.append(actor)
            results += answer or []
        return results

    def _mourn(self, jobs: Range, todo: "deque[Range]", reason: str) -> None:
        """Blame a death on the samples it came over, or on starting, and stop at the third."""
        words = " ".join(reason.split())[:300]
        if not jobs:
            self.false_starts += 1
            if self.false_starts >= TRIES * self.size:
                raise RenderError(f"Ray: actors die whenever they are started ({words})")
        for job in jobs:
            self.deaths[job.index] += 1
            if self.deaths[job.index] >= TRIES and len(jobs) == 1:
                raise RenderError(
                    f"sample {sample_id(job.index)}: Ray actors died {self.deaths[job.index]} "
                    f"times over it ({words})"
                )
            todo.appendleft((job,))

"""Rendering on a Ray cluster: an actor is one Blender process, a task one sample.

Actors hand the files of their samples back, and only the driver writes to the data set: nodes
need no common file system, but this project at the same version. Ray is an extra, imported when
it is used.

Ray itself restarts actors that were lost with their nodes, wherever there is room, and runs their
tasks again.
"""

import os
import shutil
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from star_tvr.generator import local_executor
from star_tvr.generator.blender import DEVICES
from star_tvr.generator.blender_process import (
    STARTUP,
    TRIES,
    BlenderProcess,
    RenderedSample,
    RenderJob,
    WorkerOptions,
)
from star_tvr.generator.dataset_writer import write_manifest, write_sample
from star_tvr.generator.errors import RenderError
from star_tvr.generator.failures import Outcome, render_all
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import ParameterError, TvrError
from star_tvr.schemas.dataset import sample_folder, sample_id


class Attempts:
    """An actor beside the driver that counts how often each task was begun, by whatever actor.

    Ray counts, too (`max_task_retries`), but every try to reach an actor: one whose node is gone
    would have used up any small number before Ray knows that it is.
    """

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()

    def begin(self, task: str) -> int:
        """Count another time; how often it was begun by now."""
        self.begun[task] += 1
        return self.begun[task]


class RenderActor:
    """What runs on a node: one Blender process, and a folder for what it makes."""

    def __init__(self, config: DatasetConfig, options: WorkerOptions) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="tvr-ray-")
        self.root = Path(self.folder.name) / "data"
        self.process = BlenderProcess(self.root, config, options)

    def start(self) -> None:
        """Start Blender.

        Raises:
            TvrError: it says why it cannot.
        """
        ray = import_module("ray")
        if _begun_before(ray, ray.get_runtime_context().get_actor_id()) >= TRIES:
            raise RenderError(f"Ray: an actor died {TRIES} times while Blender was started")
        self.process.start()

    def render(self, job: RenderJob) -> tuple[RenderedSample, dict[str, bytes]] | TvrError:
        """Make a sample and hand out its files by name, or say why it could not be made."""
        name = sample_id(job.index)
        if _begun_before(import_module("ray"), name) >= TRIES:
            return RenderError(f"sample {name}: Ray actors died {TRIES} times over it")
        result = self.process.attempt(job)
        if isinstance(result, TvrError):
            return result
        folder = sample_folder(self.root, name)
        files = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
        shutil.rmtree(folder)
        return result, files


def _begun_before(ray: Any, task: str) -> int:
    """How often a task of this run was begun, here or on an actor that died."""
    return int(ray.get(ray.get_actor(Attempts.__name__).begin.remote(task))) - 1


def render(
    out: Path,
    config: DatasetConfig,
    jobs: Sequence[RenderJob],
    workers: int | None = None,
    options: WorkerOptions | None = None,
    address: str | None = None,
) -> Iterator[RenderedSample]:
    """Make samples on a cluster, yielding each as it is committed, in the order of completion.

    Args:
        workers: actors; by default as many as the cluster has room for.
        address: of a running cluster, `auto` for the one of this machine, None to start one.

    Raises:
        ParameterError: Ray is not installed, no cluster is there, or it is too small.
        DataError: a sample cannot be written.
        RenderError, PlanError: Blender cannot be started, or samples could not be made; then all
            others were made first, unless more failed than did not.
    """
    begun = partial(write_manifest, out, config)
    options = options or WorkerOptions()
    ray = _connect(address, config.render.threads * (workers or 0))
    try:
        size = min(workers or len(jobs), len(jobs))
        outcomes = _work(ray, out, config, iter(jobs), size, options, begun)
        yield from render_all(outcomes, len(jobs))
    finally:
        ray.shutdown()


def work(
    out: Path,
    config: DatasetConfig,
    jobs: Iterator[RenderJob | None],
    workers: int | None,
    options: WorkerOptions | None,
    begun: Callable[[], None],
    address: str | None = None,
) -> Generator[Outcome | None]:
    """Do jobs until there are none, as `local_executor.work` does, on a cluster.

    Raises:
        TvrError: as `render`.
    """
    ray = _connect(address, config.render.threads * (workers or 0))
    try:
        yield from _work(ray, out, config, jobs, workers, options or WorkerOptions(), begun)
    finally:
        ray.shutdown()


def _work(
    ray: Any,
    out: Path,
    config: DatasetConfig,
    jobs: Iterator[RenderJob | None],
    workers: int | None,
    options: WorkerOptions,
    begun: Callable[[], None],
) -> Generator[Outcome | None]:
    """Each actor does one job at a time; actors without work make room for others."""
    gpus = options.device in DEVICES or (
        options.device == "auto" and ray.cluster_resources().get("GPU", 0) >= 1
    )
    needs = {"num_cpus": config.render.threads, "num_gpus": int(gpus)}
    room = _room(ray, needs)
    if room < 1:
        wanted = f"{needs['num_cpus']} CPUs{' and a GPU' if gpus else ''}"
        raise ParameterError("executor", f"no place in the cluster has {wanted}", "ray")
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    counter = ray.remote(Attempts).options(
        name=Attempts.__name__, num_cpus=0, scheduling_strategy=here
    )
    _attempts = counter.remote()  # an actor lives as long as somebody holds it
    remote = ray.remote(RenderActor).options(**needs, max_restarts=-1, max_task_retries=-1)
    started, last = False, time.monotonic()
    busy: dict[Any, tuple[Any, RenderJob | None]] = {}
    idle: list[Any] = []
    for _ in range(room if workers is None else min(workers, room)):
        actor = remote.remote(config, options)
        busy[actor.start.remote()] = (actor, None)
    while busy or idle:
        actor = None  # one that has nothing left to do ends, and makes room for one that was lost
        wait = local_executor.TICK if idle else local_executor.BEAT
        done, _ = ray.wait(list(busy), timeout=wait) if busy else ([], [])
        if done or not busy:
            last = time.monotonic()
        elif time.monotonic() > last + STARTUP and not (started and _room(ray, needs)):
            raise RenderError("Ray: no actor could be started; is the cluster busy with others?")
        for task in done:
            actor, job = busy.pop(task)
            try:
                result = ray.get(task)
            except ray.exceptions.RayTaskError as problem:
                raise problem.cause from None
            except ray.exceptions.RayError as problem:  # an actor cannot even be made
                raise RenderError(f"Ray: {' '.join(str(problem).split())[:300]}") from None
            idle.append(actor)
            if job is None or result is None:
                started = True
                begun()
            elif isinstance(result, TvrError):
                yield job, result
            else:
                sample, files = result
                write_sample(out, sample_id(sample.index), files)
                yield job, sample
        for job in jobs if idle else ():
            if job is None:
                break
            actor = idle.pop()
            busy[actor.render.remote(job)] = (actor, job)
            if not idle:
                break
        else:
            idle = []  # there are no more jobs
        yield None
        if idle and not busy:
            time.sleep(wait)


def _room(ray: Any, needs: dict[str, int]) -> int:
    """How many actors the cluster has room for, if nobody else uses it."""
    there = ray.cluster_resources()
    kinds = (("CPU", needs["num_cpus"]), ("GPU", needs["num_gpus"]))
    return min(int(there.get(kind, 0) // number) for kind, number in kinds if number)


def _connect(address: str | None, processors: int) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = import_module("ray")
    except ImportError:
        cure = "needs Ray: pip install 'star-tvr[ray]'"
        raise ParameterError("executor", cure, "ray") from None
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
        message = f"no Ray cluster ({reason})"
        raise ParameterError("address", message, address or "local") from None
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
        raise ParameterError("address", f"no Ray cluster ({problem})", address) from None

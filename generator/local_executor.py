"""Rendering on this machine: as many Blender processes as there is room for, kept busy."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from star_tvr.generator.blender import available_cores
from star_tvr.generator.blender_process import (
    BlenderProcess,
    RenderedSample,
    RenderJob,
    WorkerOptions,
)
from star_tvr.generator.dataset_writer import write_manifest
from star_tvr.generator.failures import Failures
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import TvrError


def render(
    out: Path,
    config: DatasetConfig,
    jobs: Sequence[RenderJob],
    workers: int | None = None,
    options: WorkerOptions | None = None,
) -> Iterator[RenderedSample]:
    """Make samples, yielding each as it is committed, in the order of completion.

    Stopping the iteration stops the processes; what is committed stays.

    Args:
        workers: Blender processes, by default for all cores; where there are several, each has
            one GPU.

    Raises:
        ConfigError: the device does not exist.
        DataError: a sample cannot be written.
        RenderError, PlanError: Blender cannot be started, or samples could not be made; then all
            others were made first, unless more failed than did not.
    """
    options = options or WorkerOptions()
    room = workers or max(1, available_cores() // config.render.threads)
    size = min(room, len(jobs))
    processes = [BlenderProcess(out, config, options, k if size > 1 else None) for k in range(size)]
    todo, failures = iter(jobs), Failures(len(jobs))
    pool = ThreadPoolExecutor(max(1, size))  # each thread waits for one process
    busy: dict[Future[RenderedSample | TvrError | None], BlenderProcess] = {}
    try:
        for process in processes:
            busy[pool.submit(process.start)] = process
        while failures.left:
            done, _ = wait(busy, return_when=FIRST_COMPLETED)
            for future in done:
                process, result = busy.pop(future), future.result()
                if result is None:
                    write_manifest(out, config)
                if job := next(todo, None):
                    busy[pool.submit(process.attempt, job)] = process
                if isinstance(result, TvrError):
                    failures.add(result)
                elif result is not None:
                    failures.made += 1
                    yield result
    finally:
        for process in processes:
            process.stop()
        pool.shutdown()
        for process in processes:
            process.close()
    failures.report()

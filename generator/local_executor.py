"""Rendering on this machine: as many Blender processes as there is room for, kept busy."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from star_tvr.generator.blender import available_cores
from star_tvr.generator.blender_process import (
    BlenderProcess,
    RenderedSample,
    RenderJob,
    WorkerOptions,
)
from star_tvr.generator.dataset_writer import write_manifest
from star_tvr.generator.failures import Outcome, render_all
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import TvrError

TICK = 0.1
"""Seconds after which somebody who has no work asks for it again."""

BEAT = 1.0
"""Seconds after which somebody who waits for work to be done shows that he is there."""


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
    room = workers or max(1, available_cores() // config.render.threads)
    begun = partial(write_manifest, out, config)
    size = min(room, len(jobs))
    return render_all(work(out, config, iter(jobs), size, options, begun), len(jobs))


def work(
    out: Path,
    config: DatasetConfig,
    jobs: Iterator[RenderJob | None],
    workers: int | None,
    options: WorkerOptions | None,
    begun: Callable[[], None],
) -> Generator[Outcome | None]:
    """Do jobs until there are none, yielding each with what came of it, and None now and then.

    Args:
        jobs: None stands for a job that is not known yet; it is asked for again in a moment.
        workers: as for `render`.
        begun: called whenever a process has been started.

    Raises:
        TvrError: Blender cannot be started.
    """
    options = options or WorkerOptions()
    size = max(1, available_cores() // config.render.threads) if workers is None else workers
    processes = [BlenderProcess(out, config, options, k if size > 1 else None) for k in range(size)]
    pool = ThreadPoolExecutor(max(1, size))  # each thread waits for one process
    busy: dict[Future[RenderedSample | TvrError | None], tuple[BlenderProcess, RenderJob | None]]
    busy = {}
    idle: list[BlenderProcess] = []
    try:
        for process in processes:
            busy[pool.submit(process.start)] = (process, None)
        while busy or idle:
            done, _ = wait(busy, TICK if idle else BEAT, FIRST_COMPLETED)
            for future in done:
                (process, finished), result = busy.pop(future), future.result()
                idle.append(process)
                if finished is None or result is None:
                    begun()
                else:
                    yield finished, result
            for job in jobs if idle else ():
                if job is None:
                    break
                process = idle.pop()
                busy[pool.submit(process.attempt, job)] = (process, job)
                if not idle:
                    break
            else:
                idle = []  # there are no more jobs
            yield None
            if idle and not busy:
                time.sleep(TICK)
    finally:
        for process in processes:
            process.stop()
        pool.shutdown()
        for process in processes:
            process.close()

"""The executors by name: where samples are rendered."""

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path

from star_tvr.generator import local_executor, ray_executor
from star_tvr.generator.blender_process import RenderedSample, RenderJob, WorkerOptions
from star_tvr.generator.failures import Outcome
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import ParameterError

Executor = Callable[
    [Path, DatasetConfig, Sequence[RenderJob], int | None, WorkerOptions], Iterator[RenderedSample]
]
"""Makes samples in a folder, with so many workers, and yields each once it is there."""


Work = Callable[
    [
        Path,
        DatasetConfig,
        Iterator[RenderJob | None],
        int | None,
        WorkerOptions | None,
        Callable[[], None],
    ],
    Generator[Outcome | None],
]
"""Does jobs that become known while it is at work: see `local_executor.work`."""


def choose_work(name: str, address: str | None = None) -> Work:
    """As `choose_executor`, for jobs that become known one by one."""
    choose_executor(name, address)
    return partial(ray_executor.work, address=address) if name == "ray" else local_executor.work


def choose_executor(name: str, address: str | None = None) -> Executor:
    """The executor of this name.

    Args:
        name: `local` or `ray`.
        address: of a running Ray cluster.

    Raises:
        ParameterError: the name is unknown, or the address goes with another executor.
    """
    if name == "ray":
        return partial(ray_executor.render, address=address)
    if name != "local":
        raise ParameterError("executor", "known are local, ray", name)
    if address is not None:
        raise ParameterError("address", "goes with the executor ray only")
    return local_executor.render

"""Rendering for readers that use samples up while they are made: a bounded number ahead of them.

What is asked for is read from the folder again and again, see `schemas.stream`. A sample that is
not there is made, in the order of numbers; one whose plan cannot be rendered gets its next plan,
see `Sampler.plan`. So what a sample shows follows from the configuration, its number and the
files in `stream/failed/`, whoever makes it and when.
"""

import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from star_tvr.generator.blender_process import RenderedSample, RenderJob, WorkerOptions
from star_tvr.generator.dataset_writer import write_manifest
from star_tvr.generator.errors import RenderError
from star_tvr.generator.executors import Work
from star_tvr.generator.failures import MOST_FAILURES
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import ConfigError, DataError, PlanError, TvrError, printable
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.dataset import (
    refuse_other_config,
    remove_all_drafts,
    sample_folder,
    sample_id,
)
from star_tvr.schemas.files import writing
from star_tvr.schemas.locks import lock_folder
from star_tvr.schemas.stream import Decision, Need, RendererState, Stream

LOOK = 0.2
"""Seconds after which the needs of readers are read again."""

BEAT = 2.0
"""Seconds after which the renderer shows that it is alive."""


@dataclass
class Queue:
    """The samples that readers need and that are not there, in order.

    Attributes:
        ahead: samples that may be there beyond those that a reader has used up.
        cursor: all needed samples before it are there, being made, or failed and waiting.
        limit: the sample after the last one that may be made now.
    """

    stream: Stream
    ahead: int
    cursor: int = 0
    limit: int = 0
    end: int = 0
    first: int = 0
    needs: list[Need] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    looked: float = float("-inf")
    claimed: set[int] = field(default_factory=set)
    again: list[int] = field(default_factory=list)

    def jobs(self) -> Iterator[RenderJob | None]:
        """Endlessly the next job, or None where there is none now."""
        while True:
            self.look()
            yield self._next()

    def look(self) -> None:
        """Read what is needed. Whatever may have been deleted meanwhile is looked for again."""
        if time.monotonic() < self.looked + LOOK:
            return
        self.looked = time.monotonic()
        needs = self.stream.needs()
        if needs == self.needs:
            return
        first = min((need.first for need in needs), default=0)
        sessions = {need.session for need in needs}
        if first < self.first or not sessions <= {need.session for need in self.needs}:
            self.cursor = first
            self.again.append(0)
        self.needs, self.first = needs, first
        self.decisions = self.stream.decisions()  # each was written before it was needed
        self.cursor = max(self.cursor, first)
        self.limit = max((min(n.used + self.ahead, n.end) for n in needs), default=0)
        self.end = max((need.end for need in needs), default=0)

    def _next(self) -> RenderJob | None:
        while self.again or self.cursor < self.limit:
            if self.again:
                index = self.again.pop()
            else:
                index, self.cursor = self.cursor, self.cursor + 1
            if (
                not any(need.covers(index) for need in self.needs)
                or index in self.claimed
                or self._is_there(index)
            ):
                continue
            self.claimed.add(index)
            decision = next((d for d in reversed(self.decisions) if d.first <= index), None)
            chosen = decision.to_json() if decision else None
            return RenderJob(index, draw=len(self.stream.failed(index)), decision=chosen)
        return None

    def _is_there(self, index: int) -> bool:
        return (sample_folder(self.stream.root, sample_id(index)) / "sample.json").is_file()


def render_ahead(
    out: Path,
    config: DatasetConfig,
    work: Work,
    ahead: int,
    workers: int | None = None,
    options: WorkerOptions | None = None,
    patience: float = 0.0,
) -> Generator[RenderedSample]:
    """Make samples as readers need them, without an end; yields each as it is committed.

    Nobody else may write to the folder meanwhile.

    Args:
        config: without its number of samples, which is what the readers need.
        ahead: samples that may be there beyond those that a reader has used up.
        patience: seconds to wait for somebody else to leave the folder.

    Raises:
        ConfigError: somebody else writes to the folder, or it was made with another configuration.
        TvrError: Blender cannot be started, nothing can be written, or more plans failed than were
            rendered. `stream/renderer.json` says so, too.
    """
    Sampler.from_config(config)
    refuse_other_config(out, config)
    stream = Stream(out)

    with _alone(out, patience):
        state = _Reporter(stream)
        try:
            yield from _serve(out, config, work, Queue(stream, ahead), state, workers, options)
        except TvrError as problem:
            state.end(str(problem))
            raise
        except BaseException:
            state.end("it was stopped")
            raise


def stop_with_stdin() -> None:
    """Stop this process as SIGTERM does once its standard input ends, as with whoever began it."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _alone(out: Path, patience: float) -> Iterator[None]:
    """Lock the folder; what killed writers left in it goes."""

    def clean() -> None:
        with writing(out):
            remove_all_drafts(out)

    latest = time.monotonic() + patience
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock_folder(out, clean=clean))
                break
            except ConfigError:
                if time.monotonic() > latest:
                    raise
            time.sleep(LOOK)
        yield


class _Reporter:
    """Keeps `stream/renderer.json`."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.state = stream, RendererState(state="starting")
        self.written = float("-inf")
        self.write()

    def begun(self) -> None:
        """Blender has been started."""
        self.change(state="rendering")
        self.write()

    def add(self, sample: RenderedSample) -> None:
        """A sample was made."""
        old = self.state
        self.change(made=old.made + 1, cpu=old.cpu + sample.cpu, bytes=old.bytes + sample.size)

    def change(self, **values: object) -> None:
        """Note values, to be written with the next beat."""
        self.state = self.state.model_copy(update=values)

    def beat(self) -> None:
        """Show now and then that the renderer is alive."""
        if time.monotonic() > self.written + BEAT:
            self.write()

    def write(self) -> None:
        """Write the state now."""
        self.written = time.monotonic()
        self.change(beat=self.state.beat + 1)
        self.stream.say_state(self.state)

    def end(self, words: str) -> None:
        """Say why the renderer ends, if that can be written."""
        self.change(state="ended", words=printable(words))
        try:
            self.write()
        except DataError:
            pass  # what could not be written is the reason why it ends


def _serve(
    out: Path,
    config: DatasetConfig,
    work: Work,
    queue: Queue,
    state: _Reporter,
    workers: int | None,
    options: WorkerOptions | None,
) -> Iterator[RenderedSample]:
    covered = 0
    with closing(work(out, config, queue.jobs(), workers, options, state.begun)) as outcomes:
        for outcome in outcomes:
            if queue.end > covered:
                covered = queue.end
                write_manifest(out, config.model_copy(update={"num_samples": covered}))
            state.beat()
            if outcome is None:
                continue
            job, result = outcome
            queue.claimed.discard(job.index)
            if not isinstance(result, TvrError):
                state.add(result)
                yield result
            elif not any(need.covers(job.index) for need in queue.needs):
                pass  # it is not needed any more, and its folder may be gone
            elif isinstance(result, PlanError | RenderError):
                state.change(failed=state.state.failed + 1)
                if state.state.failed > max(MOST_FAILURES, state.state.made):
                    raise result
                queue.stream.say_failed(job.index, str(result))
                queue.again.append(job.index)
            else:
                raise result

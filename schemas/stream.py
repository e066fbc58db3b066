"""A data set that is used up while it is made: what its two sides tell each other in its folder.

Its readers say which samples they need (`stream/readers/NAME.json`), and its renderer how it is
(`stream/renderer.json`) and which plans could not be rendered (`stream/failed/ID.json`). Besides
the samples themselves there is nothing else: no server, and no queue.
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.curriculum import choose_plan
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.seeds import shuffled
from star_tvr.scenes.settings import Integer, NonNegative, Settings
from star_tvr.schemas.checks import parse_json, read_json
from star_tvr.schemas.dataset import (
    SAMPLES_PER_FOLDER,
    dumps_line,
    expected_views,
    is_sample,
    remove_sample,
    sample_id,
)
from star_tvr.schemas.files import make_folder, read_text, write_whole, writer, writing
from star_tvr.schemas.folders import CURRICULUM, STREAM
from star_tvr.schemas.locks import lock_folder

Number = Annotated[Integer, Field(ge=0)]


class Need(Settings):
    """What a reader needs.

    A reader that keeps what it has used needs everything up to `end`; one that does not needs
    nothing before `used` any more but the very first sample: trainers look at it whenever they
    start, to see what their data are.
    """

    session: str
    """Who reads: another one from start to start."""
    keep: bool
    """Whether samples stay that are used up."""
    used: Number
    """The first sample that is not used up."""
    end: Number
    """The sample after the last one that it will ever need."""

    @property
    def first(self) -> int:
        """From here on samples have to be there."""
        return 0 if self.keep else self.used

    def covers(self, index: int) -> bool:
        """Whether a sample is one that has to be there, now or later."""
        return index == 0 or self.first <= index < self.end


class RendererState(Settings):
    """How the renderer of a stream is."""

    state: Literal["starting", "rendering", "ended"]
    """`rendering` once Blender has been started."""
    words: str = ""
    """Why it ended."""
    beat: Number = 0
    """Counts up while it is alive."""
    made: Number = 0
    """Samples that it has made since it was started."""
    failed: Number = 0
    """Plans that could not be rendered since then."""
    cpu: NonNegative = 0.0
    """Seconds that cores worked for the samples made."""
    bytes: Number = 0
    """Of the files of the samples made."""


class Decision(Settings):
    """A line of `curriculum.jsonl`: how samples from one on are chosen, until the next line."""

    decision: Number
    """The number of the line, from 0."""
    step: Number
    """The step of training after which it was made."""
    first: Number
    """The first sample that it holds for."""
    schedule: str
    """By which rule."""
    views: str
    pairs: Annotated[Integer, Field(ge=1)]
    """Which questions are asked about a sample, see `asked_views`."""
    weights: dict[str, dict[str, NonNegative]]
    """Of every factor, how much more often a value is asked about than by chance."""


class FailedDraws(Settings):
    """A sample some of whose plans could not be rendered: the next one takes their place."""

    errors: tuple[str, ...]
    """What went wrong, a line for every plan, in order."""


@dataclass(frozen=True)
class Stream:
    """The folder of a data set with these files in it."""

    root: Path

    @property
    def renderer_file(self) -> Path:
        """Where the renderer says how it is."""
        return self.root / STREAM / "renderer.json"

    @property
    def readers(self) -> Path:
        """The folder where readers say what they need."""
        return self.root / STREAM / "readers"

    def need_file(self, name: str) -> Path:
        """Where the reader of this name says what it needs."""
        return self.readers / f"{name}.json"

    @contextmanager
    def reading(self, keep: bool) -> Iterator[None]:
        """Be a reader, with others if all keep what they have used.

        What readers that are gone have needed is forgotten when nobody else reads.

        Raises:
            ConfigError: somebody else reads, who is named.
            DataError: the folder cannot be written.
        """

        def clean() -> None:
            for path in self.readers.glob("*.json"):
                path.unlink(missing_ok=True)

        with lock_folder(self.readers, shared=keep, clean=clean):
            yield

    def say_need(self, name: str, need: Need) -> None:
        """Write what a reader needs. Raises DataError if that cannot be."""
        _write(self.need_file(name), need)

    def needs(self) -> list[Need]:
        """What all readers need. Raises DataError if a file is damaged."""
        found = []
        for path in sorted(self.readers.glob("*.json")):
            try:
                found.append(Need.parse(read_json(path), str(path)))
            except DataError:
                if path.exists():  # otherwise the reader has just ended
                    raise
        return found

    def say_state(self, state: RendererState) -> None:
        """Write how the renderer is. Raises DataError if that cannot be."""
        _write(self.renderer_file, state)

    def state(self) -> RendererState | None:
        """How the renderer is; None if there was none yet. Raises DataError for a damaged file."""
        path = self.renderer_file
        return RendererState.parse(read_json(path), str(path)) if path.exists() else None

    def decisions(self) -> list[Decision]:
        """The decisions of a curriculum, in order. Raises DataError for a damaged file."""
        path = self.root / CURRICULUM
        if not path.exists():
            return []
        lines = read_text(path, root=self.root).splitlines()
        return [Decision.parse(parse_json(line, path), str(path)) for line in lines]

    def add_decisions(self, decisions: Iterable[Decision]) -> None:
        """Append to the decisions. Raises DataError if that cannot be written."""
        path = self.root / CURRICULUM
        lines = [dumps_line(d.to_json()) for d in (*self.decisions(), *decisions)]
        with writing(path):
            make_folder(path.parent)
            write_whole(path, "".join(lines))

    def failed(self, index: int) -> tuple[str, ...]:
        """Why plans of a sample could not be rendered, in order; empty for almost all samples."""
        path = self._failed_file(index)
        return FailedDraws.parse(read_json(path), str(path)).errors if path.exists() else ()

    def say_failed(self, index: int, error: str) -> None:
        """Write that one more plan of a sample could not be rendered."""
        _write(self._failed_file(index), FailedDraws(errors=(*self.failed(index), error)))

    def _failed_file(self, index: int) -> Path:
        return self.root / STREAM / "failed" / f"{sample_id(index)}.json"

    def count(self, first: int, end: int) -> int:
        """How many samples of a stretch are there."""
        names = self._names(range(first // SAMPLES_PER_FOLDER, end // SAMPLES_PER_FOLDER + 1))
        return sum(first <= int(n) < end for n in names if n.isdecimal())

    def remove_before(self, first: int) -> None:
        """Delete all samples before this one but the very first, and what writers left of them."""
        for parent in sorted((self.root / "samples").glob("[0-9]*")):
            block = int(parent.name) if parent.name.isdecimal() else first
            if block > first // SAMPLES_PER_FOLDER:
                break
            for path in list(parent.iterdir()):
                number = path.name.removeprefix(".").partition(".")[0]
                if not number.isdecimal() or not 0 < int(number) < first:
                    continue
                if path.name.startswith("."):
                    shutil.rmtree(path, ignore_errors=True)
                elif is_sample(self.root, path):
                    remove_sample(self.root, path.name)
            if (block + 1) * SAMPLES_PER_FOLDER <= first and not any(parent.iterdir()):
                parent.rmdir()

    def _names(self, blocks: Iterable[int]) -> Iterator[str]:
        for block in blocks:
            try:
                yield from os.listdir(self.root / "samples" / f"{block:05d}")
            except FileNotFoundError:
                continue


def pair_kinds(config: DatasetConfig, views: str) -> list[tuple[str, str]]:
    """The pairs of cameras that questions can be from, initial and final.

    Args:
        config: of the data.
        views: `same`, `cross`, or any other word for all of them.
    """
    ends: dict[str, list[str]] = {"initial": [], "final": []}
    for state, camera in sorted(expected_views(config)):
        ends[state].append(camera)
    pairs = [(a, b) for a in ends["initial"] for b in ends["final"]]
    return [
        p for p in pairs if views not in ("same", "cross") or (p[0] == p[1]) == (views == "same")
    ]


def asked_views(config: DatasetConfig, views: str, each: int, index: int) -> list[tuple[str, str]]:
    """The cameras of the questions that are asked about a sample.

    They are balanced over as many samples as there are pairs of cameras.

    Args:
        views: as for `pair_kinds`.
        each: number of questions.
        index: number of the sample.
    """
    kinds = pair_kinds(config, views)
    block, place = divmod(index, len(kinds))
    order = shuffled(len(kinds), config.seed, "asked", block)
    return [kinds[order[(place + k) % len(kinds)]] for k in range(each)]


def planned(sampler: Sampler, index: int, skip: int, decision: Decision | None) -> Plan:
    """The plan of a sample, as it is or as a decision chooses it.

    Args:
        skip: how many of its plans, or choices, could not be rendered.

    Raises:
        PlanError: there is none.
    """
    if decision is None:
        return sampler.plan(index, skip)
    views = asked_views(sampler.config, decision.views, decision.pairs, index)
    plan = choose_plan(sampler, index, skip, decision.weights, views)
    return replace(plan, decision=decision.decision)


def session() -> str:
    """A name for this start of a reader."""
    return f"{writer()}-{time.time_ns()}"


def _write(path: Path, content: Settings) -> None:
    with writing(path):
        make_folder(path.parent)
        write_whole(path, dumps_line(content.to_json()))

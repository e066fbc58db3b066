"""A data set that is rendered while it is trained on: its rows are known before its samples are.

What will be asked follows from the configuration and the seed alone, so a run is planned without a
sample; reading one waits until the renderer has put it into the folder.
"""

import multiprocessing
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star_tvr.scenes.config import DatasetConfig
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import Dataset, Manifest, sample_id
from star_tvr.schemas.records import Pair
from star_tvr.schemas.stream import RendererState, Stream, asked_views
from star_tvr.training.config import FRESH_SPLIT, FreshConfig
from star_tvr.training.errors import TrainingError

SHORTEST, LONGEST = 0.005, 0.1
"""Seconds after which a sample that was not there is looked for again, at first and at last."""


class Waited:
    """Seconds that reading has waited for samples, in this process and those forked from it."""

    def __init__(self) -> None:
        self._seconds = multiprocessing.Value("d", 0.0)

    def add(self, seconds: float) -> None:
        """Add what one read has waited."""
        with self._seconds.get_lock():
            self._seconds.value += seconds

    @property
    def seconds(self) -> float:
        """The sum."""
        return float(self._seconds.value)

    def __deepcopy__(self, memo: Any) -> "Waited":
        return self

    def __reduce__(self) -> Any:
        # A hash of the data set, or a process that was spawned, has a count of its own.
        return Waited, ()


@dataclass(frozen=True)
class FreshDataset(Dataset):
    """The folder of a stream, seen by a training.

    Attributes:
        views: of which kind the pairs are, see `RowsConfig.views`.
        each: questions asked about a sample.
        rows: questions that the training asks.
        patience: seconds after which a renderer that shows no sign of life is given up.
        waited: how long reading has waited.
    """

    views: str
    each: int
    rows: int
    patience: float
    waited: Waited = field(default_factory=Waited, compare=False)

    @classmethod
    def plan(cls, root: Path, fresh: FreshConfig, views: str, rows: int) -> "FreshDataset":
        """The data set that a training reads, whether anything of it is there or not.

        Raises:
            ConfigError: the data's configuration is wrong.
        """
        end = -(-rows // fresh.pairs)
        config = stream_config(fresh, end)
        return cls(root, Manifest.of(config, {}), views, fresh.pairs, rows, fresh.patience)

    @property
    def stream(self) -> Stream:
        """Where readers and renderer talk."""
        return Stream(self.root)

    @property
    def end(self) -> int:
        """Number of samples that the training uses."""
        return -(-self.rows // self.each)

    def split_names(self) -> list[str]:
        """The one split that there is."""
        return [FRESH_SPLIT]

    def split(self, name: str) -> list[Pair]:
        """All questions of the training, in order.

        Those about a sample stand together. Which cameras they are from is balanced over as many
        samples as there are pairs of cameras.
        """
        return [
            Pair(sample_id(i), *cameras)
            for i in range(self.end)
            for cameras in asked_views(self.config, self.views, self.each, i)
        ][: self.rows]

    def difficulties(self, name: str) -> dict[Pair, float]:
        """None: the samples are not there yet."""
        return {}

    def text(self, sample: str) -> str:
        """The text of a sample's `sample.json`, waiting for it.

        Raises:
            TrainingError: the renderer has ended, or shows no sign of life.
            DataError: the file cannot be read.
        """
        path = self.folder(sample) / "sample.json"
        if not path.exists():
            begun = time.monotonic()
            try:
                watch = Watch(self.stream, self.patience)
                self._refuse_used(sample)
                pause = SHORTEST
                while not path.exists():
                    watch.look()
                    time.sleep(pause)
                    pause = min(2 * pause, LONGEST)
            finally:
                self.waited.add(time.monotonic() - begun)
        return super().text(sample)

    def _refuse_used(self, sample: str) -> None:
        """Raise TrainingError for a sample that will never be there."""
        if not any(need.covers(int(sample)) for need in self.stream.needs()):
            raise TrainingError(f"{self.folder(sample)}: is used up, or was never asked for")


class Watch:
    """Looks whether the renderer of a stream is alive."""

    def __init__(self, stream: Stream, patience: float) -> None:
        self.stream, self.patience = stream, patience
        self.state: RendererState | None = None
        self.changed = time.monotonic()

    def look(self) -> RendererState | None:
        """How the renderer is; None if there was none yet.

        Raises:
            TrainingError: it has ended, or there was no sign of it for too long.
        """
        state, now = self.stream.state(), time.monotonic()
        if state is not None and state.state == "ended":
            raise TrainingError(f"{self.stream.root}: the renderer is gone: {state.words}; {AGAIN}")
        if state != self.state:
            self.state, self.changed = state, now
        if now > self.changed + self.patience:
            what = "there is no renderer" if state is None else "the renderer is silent"
            raise TrainingError(
                f"{self.stream.root}: {what}: no sign of life for {self.patience:g} s; {AGAIN}"
            )
        return state


AGAIN = "see to it, then run the same commands again"


def stream_config(fresh: FreshConfig, samples: int) -> DatasetConfig:
    """The configuration of the data that a training renders.

    Raises:
        ConfigError: it is wrong.
    """
    return load_config(fresh.config, [*fresh.set, f"seed={fresh.seed}", f"num_samples={samples}"])

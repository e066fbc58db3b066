"""Questions one at a time and the reward of answers: for environments and data loaders.

`Episodes` reads a data set folder or an export in parquet. It asks and scores in the same way as
`tvr train`; `integrations/` has it in the conventions of other trainers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from operator import index as integer
from pathlib import Path
from typing import Any, SupportsIndex, overload

from PIL.Image import Image

from star_tvr.scenes.errors import ParameterError
from star_tvr.schemas.pictures import data_url
from star_tvr.schemas.records import Pair
from star_tvr.training.config import PromptConfig
from star_tvr.training.pairs import choose_pairs
from star_tvr.training.parquet_dataset import open_dataset
from star_tvr.training.prompts import Message, flat_messages, wire_messages, with_images
from star_tvr.training.rewards import Reward, Score, Truth, resolve_reward, score
from star_tvr.training.rows import RowReader


class NoSuchEpisode(ParameterError, IndexError):
    """A split has fewer episodes than that."""


@dataclass(frozen=True)
class Episode:
    """One question: what a model may see.

    Attributes:
        index: its number in its split.
        split: such as `cross-view/train`.
        pair: the sample and the cameras of its two pictures.
        images: the initial and the final picture, RGB.
        prompt: chat messages; parts `{"type": "image"}` stand for the pictures, in order.
    """

    index: int
    split: str
    pair: Pair
    images: tuple[Image, Image]
    prompt: list[Message]

    @property
    def messages(self) -> list[Message]:
        """The chat messages with the pictures in them, as `{"type": "image", "image": …}`."""
        return with_images(self.prompt, self.images)

    @property
    def openai_messages(self) -> list[Message]:
        """The chat messages with the pictures as data URLs, as OpenAI's interface has them."""
        return wire_messages(self.messages)

    @property
    def text(self) -> str:
        """The whole question as one text, with `<image>` where a picture goes."""
        return "\n\n".join(message["content"] for message in flat_messages(self.prompt))

    def _repr_html_(self) -> str:
        """Pictures and question, for notebooks."""
        pictures = "".join(f'<img src="{data_url(image)}" alt="">' for image in self.images)
        names = f"{self.pair.sample}, {self.pair.initial} to {self.pair.final}"
        title = escape(f"{self.split}, {self.index}: sample {names}")
        return f"<p>{title}</p>{pictures}<pre>{escape(self.text)}</pre>"


class Episodes(Sequence[Episode]):
    """The questions of a data set's splits, and the reward of answers to them.

    It is a sequence of the episodes of one split, fit for `torch.utils.data.DataLoader` with
    `collate`; `reset` also gives those of the others. Nothing depends on what was asked before, so
    an index always shows the same pictures. It can be pickled, and reads its files anew then.

    >>> episodes = Episodes("data/star", "cross-view/train")  # doctest: +SKIP
    >>> episode = episodes[0]  # doctest: +SKIP
    >>> episodes.score(0, "<think></think><answer>2.color.cyan</answer>").total  # doctest: +SKIP
    6.0

    Args:
        dataset: a data set folder, or its export in parquet.
        split: such as `cross-view/train`.
        reward: a preset's name, or a reward of one's own.
        prompt: the wording; by default the full one.

    Raises:
        ConfigError: there is no such preset.
        DataError: there is no such data set or split, or a file of it is damaged.
    """

    def __init__(
        self,
        dataset: str | Path,
        split: str,
        reward: str | Reward = "star",
        prompt: PromptConfig | None = None,
    ) -> None:
        self.root, self.split = Path(dataset), split
        self.reward = resolve_reward(reward)
        self.prompt = prompt or PromptConfig()
        self._open: dict[str, tuple[RowReader, list[Pair]]] = {}
        self._opened(split)

    def splits(self) -> list[str]:
        """The names of all splits that can be asked for."""
        return self._opened(self.split)[0].dataset.split_names()

    def count(self, split: str | None = None) -> int:
        """How many episodes a split has. Raises DataError if there is no such split."""
        return len(self._opened(split or self.split)[1])

    def reset(self, index: int, split: str | None = None) -> Episode:
        """An episode: its pictures are read when it is asked for.

        Args:
            index: its place in the split; -1 is the last.
            split: another one than that of the constructor.

        Raises:
            NoSuchEpisode: an IndexError: the split has fewer.
            DataError: there is no such split, or a file of the sample is missing or damaged.
        """
        number, reader, pair = self._find(index, split)
        row = reader.row(pair)
        first, last = row["images"]
        return Episode(number, split or self.split, pair, (first, last), row["prompt"])

    def truth(self, index: SupportsIndex, split: str | None = None) -> str:
        """The true answer, with all that is as right: see `training.answers.truth_text`.

        Raises:
            NoSuchEpisode, DataError: as `reset`.
        """
        _, reader, pair = self._find(index, split)
        return reader.truth(pair)

    def score(
        self, index: SupportsIndex | Truth, completion: Any, split: str | None = None
    ) -> Score:
        """The reward of an answer, with its parts: `.total`, `.format` and `.accuracy`.

        Args:
            index: the place of the question in the split, or its true answer.
            completion: a text or chat messages, see `training.answers.completion_text`.
            split: another one than that of the constructor.

        Raises:
            NoSuchEpisode, DataError: as `reset`.
            ParameterError: the completion is neither.
        """
        truth = self.truth(index, split) if isinstance(index, SupportsIndex) else index
        return score(completion, truth, self.reward)

    def __len__(self) -> int:
        return self.count()

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> list[Episode]: ...
    def __getitem__(self, index: int | slice) -> Episode | list[Episode]:
        if isinstance(index, slice):
            return [self.reset(k) for k in range(len(self))[index]]
        return self.reset(index)

    def __reduce__(self) -> Any:
        return Episodes, (self.root, self.split, self.reward, self.prompt)

    def __repr__(self) -> str:
        return f"Episodes({str(self.root)!r}, {self.split!r}): {len(self)} of them"

    def _repr_html_(self) -> str:
        """The first episodes, for notebooks."""
        shown = "".join(episode._repr_html_() for episode in self[:3])
        return f"<p>{escape(repr(self))}</p>{shown}"

    def _opened(self, split: str) -> tuple[RowReader, list[Pair]]:
        if split not in self._open:
            dataset = open_dataset(self.root, split)
            pairs = choose_pairs(dataset, split, "split")
            self._open[split] = RowReader(dataset, self.prompt), pairs
        return self._open[split]

    def _find(self, index: SupportsIndex, split: str | None) -> tuple[int, RowReader, Pair]:
        split = split or self.split
        reader, pairs = self._opened(split)
        number = integer(index)  # NumPy's, too
        if not -len(pairs) <= number < len(pairs):
            message = f"{split} has {len(pairs)} episodes; give a number from 0 to {len(pairs) - 1}"
            raise NoSuchEpisode("index", message, number)
        return number % len(pairs), reader, pairs[number]


def collate(episodes: Sequence[Episode]) -> dict[str, list[Any]]:
    """A batch for `torch.utils.data.DataLoader`: lists by name, as a processor takes them.

    `images` is a list of pairs of pictures, `messages` of conversations with these pictures in
    them, `index` and `split` say which questions they are. Pictures stay pictures: how they become
    tensors depends on the model's processor.
    """
    return {
        "images": [list(episode.images) for episode in episodes],
        "messages": [episode.messages for episode in episodes],
        "index": [episode.index for episode in episodes],
        "split": [episode.split for episode in episodes],
    }

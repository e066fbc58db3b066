"""What an evaluation asks, what it is told, and how answers are drawn: for every kind of model."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from star_tvr.scenes.errors import ParameterError
from star_tvr.scenes.seeds import derive
from star_tvr.schemas.records import Pair
from star_tvr.training.config import ModelInput
from star_tvr.training.predictions import MOST_DRAWS
from star_tvr.training.rows import RowReader


class Question(NamedTuple):
    """One answer that is wanted: the `draw`-th to a pair, from 0."""

    pair: Pair
    draw: int

    def __str__(self) -> str:
        draw = f", draw {self.draw}" if self.draw else ""
        return f"sample {self.pair.sample}, {self.pair.initial} to {self.pair.final}{draw}"


@dataclass(frozen=True)
class Response:
    """What became of a question.

    Attributes:
        question: what was asked.
        completion: what the model said; None if there is no answer.
        problem: why there is none, as one line.
    """

    question: Question
    completion: str | None
    problem: str = ""


@dataclass(frozen=True)
class Decoding:
    """How a model's words become an answer.

    Attributes:
        max_new_tokens: length at which an answer is cut off.
        temperature: 0 is greedy.
        num_samples: answers to each question.
        seed: of the draws. Without one a local model uses 0 and an endpoint chooses.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    num_samples: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ParameterError("temperature", "is not a number from 0 up", self.temperature)
        if self.num_samples > MOST_DRAWS:
            message = f"is more than {MOST_DRAWS}, the most answers to one question"
            raise ParameterError("num_samples", message, self.num_samples)
        if self.num_samples > 1 and not self.temperature:
            message = "with temperature 0 they would all be the same; set it, for instance to 1"
            raise ParameterError("num_samples", message, self.num_samples)

    def seed_of(self, question: Question) -> int:
        """A seed of 31 bits for one answer, so that no answer depends on which others are asked."""
        pair = question.pair
        keys = ("answer", pair.sample, pair.initial, pair.final, question.draw)
        return derive(self.seed or 0, *keys) % 2**31


class Backend(Protocol):
    """A model that can be asked."""

    def check(self) -> None:
        """Find out what can be found out without asking. Raises ConfigError."""

    def identity(self) -> dict[str, Any]:
        """What tells it from other models, as JSON."""

    def trained(self) -> ModelInput:
        """How it was asked in its training, if it was trained here. Raises ConfigError."""

    def answers(
        self, reader: RowReader, questions: Sequence[Question], decoding: Decoding
    ) -> Iterator[Response]:
        """Ask, and yield each answer as soon as it is there."""

"""What an evaluation asks, what it is told, and how answers are drawn: for every kind of model."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from star_tvr.scenes.errors import ParameterError
from star_tvr.scenes.seeds import derive
from star_tvr.schemas.records import Pair
from star_tvr.training.config import ModelInput
from star_tvr.training.predictions import MOST_DRAWS
from star_tvr.training.rows import RowReader

LONGEST = 512
"""Tokens of an answer, unless the model was trained to longer or shorter ones."""


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
        finish_reason: why it ended, in OpenAI's words: `stop`, or `length` if it was cut off at
            the longest length; None if that is not known.
        prompt_tokens, completion_tokens: as the model counts them; None if that is not known.
    """

    question: Question
    completion: str | None
    problem: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def to_json(self) -> dict[str, Any]:
        """What a line of predictions says of an answer, beside the question."""
        tokens = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
        usage = {key: value for key, value in tokens.items() if value is not None}
        return {
            "completion": self.completion,
            **({"finish_reason": self.finish_reason} if self.finish_reason else {}),
            **({"usage": usage} if usage else {}),
        }


@dataclass(frozen=True)
class Decoding:
    """How a model's words become an answer.

    Nothing else has a say in it: neither top-p and top-k nor penalties, whatever a model's files or
    a server propose.

    Attributes:
        max_new_tokens: length at which an answer is cut off; None is that of the model's training,
            or LONGEST.
        temperature: 0 is greedy; None is greedy on this machine, and a server's own elsewhere.
        num_samples: answers to each question.
        seed: of the draws. Without one a local model uses 0 and an endpoint chooses.
    """

    max_new_tokens: int | None = None
    temperature: float | None = None
    num_samples: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise ParameterError("temperature", "is not a number from 0 up", self.temperature)
        if self.num_samples > MOST_DRAWS:
            message = f"is more than {MOST_DRAWS}, the most answers to one question"
            raise ParameterError("num_samples", message, self.num_samples)
        if self.num_samples > 1 and self.temperature == 0:
            message = "with temperature 0 they would all be the same; set it, for instance to 1"
            raise ParameterError("num_samples", message, self.num_samples)

    def resolve(self, trained: ModelInput, temperature: float | None) -> "Decoding":
        """The same with nothing left open that is up to us.

        Args:
            trained: how the model was asked in its training.
            temperature: what None stands for.

        Raises:
            ParameterError: several greedy answers are asked for.
        """
        length = self.max_new_tokens or trained.max_completion_length or LONGEST
        if self.temperature is not None:
            temperature = self.temperature
        return replace(self, max_new_tokens=length, temperature=temperature)

    def seed_of(self, question: Question) -> int:
        """A seed of 31 bits for one answer, so that no answer depends on which others are asked."""
        pair = question.pair
        keys = ("answer", pair.sample, pair.initial, pair.final, question.draw)
        return derive(self.seed or 0, *keys) % 2**31


class Backend(Protocol):
    """A model that can be asked.

    Attributes:
        temperature: of answers for which none is given; None leaves it to the model's server.
    """

    @property
    def temperature(self) -> float | None:
        """See above."""

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

"""Files of predictions: what somebody's model said to which question."""

from pathlib import Path
from typing import NamedTuple

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.checks import check, parse_json
from star_tvr.schemas.files import read_text
from star_tvr.schemas.records import Pair

MOST_DRAWS = 1000
"""Answers to one question: every question counts with every draw that any of them has."""


class Prediction(NamedTuple):
    """One answer in a file.

    Attributes:
        line: number of its line, from 1.
        completion: what the model said.
        finish_reason: why it ended, in OpenAI's words: `length` is an answer that was cut off.
            None if the file does not say.
    """

    line: int
    completion: str
    finish_reason: str | None = None


def read_predictions(path: Path) -> dict[tuple[Pair, int], Prediction]:
    """The answer to every pair and draw in a file of predictions, in its order.

    A line without a draw is draw 0.

    Raises:
        DataError: naming file and line: a line is malformed, predicts a pair again, or is one draw
            too many.
    """
    draws: set[int] = set()
    predictions: dict[tuple[Pair, int], Prediction] = {}
    # Not splitlines(): a completion may hold characters that only Python takes for line ends.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        document = parse_json(line, where)
        check(document, "prediction", where)
        pair = Pair(document["sample"], document["initial"], document["final"])
        key = pair, int(document.get("draw", 0))
        draws.add(key[1])
        if len(draws) > MOST_DRAWS:
            raise DataError(
                f"{where}: draw {key[1]} is one more than {MOST_DRAWS} different ones; number the "
                "answers to each question from 0"
            )
        if key in predictions:
            first = predictions[key].line
            raise DataError(
                f"{where}: {pair_words(pair)} was already predicted in line {first}; "
                "remove one of the two, or number them: draw 0, draw 1"
            )
        # JSON can name half a surrogate pair, which no file can hold when results are written.
        completion = document["completion"].encode("utf-8", "replace").decode()
        predictions[key] = Prediction(number, completion, document.get("finish_reason"))
    return predictions


def pair_words(pair: Pair) -> str:
    """How messages name a question."""
    return f"sample {pair.sample}, {pair.initial} to {pair.final},"

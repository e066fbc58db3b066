"""What every check says at its end: one line of JSON. It runs beside a library, without pytest."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from star_tvr import Episodes
from star_tvr.training.answers import compose, parse_truth

SPLIT = "cross-view/train"


def right_answer(truth: str) -> str:
    """A completion that is right in full."""
    return compose(parse_truth(truth), "It changed.")


def expected(episodes: Episodes, index: int) -> tuple[float, float]:
    """The rewards of the right answer and of silence, as `Episodes` has them."""
    right = right_answer(episodes.truth(index))
    return episodes.score(index, right).total, episodes.score(index, "").total


def milliseconds(work: Callable[[], object], times: int = 40) -> float:
    """CPU time of one call."""
    start = time.process_time()
    for _ in range(times):
        work()
    return 1000 * (time.process_time() - start) / times


def report(
    library: str,
    ran: str,
    oracle: Sequence[float],
    silence: Sequence[float],
    best: Sequence[float],
    least: Sequence[float],
    item: float,
) -> None:
    """Compare the scores that came through a library with those that are due, and say them.

    Args:
        library: its name in the package index.
        ran: what was run, in words.
        oracle, silence: the scores of right answers and of none, of several questions.
        best, least: what they should be.
        item: milliseconds of CPU time for a question.
    """
    assert oracle and list(oracle) == list(best), (oracle, best)
    assert list(silence) == list(least), (silence, least)
    line = {
        "version": version(library),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "ran": ran,
        "oracle": list(oracle),
        "silence": list(silence),
        "ms": round(item, 2),
    }
    print(json.dumps(line))

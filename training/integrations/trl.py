"""Environments for TRL 1.16: GRPOTrainer's `environment_factory`.

    episodes = Episodes("data/star", "cross-view/train")
    GRPOTrainer(
        model=…,
        train_dataset=question_rows(episodes),
        environment_factory=partial(TvrEnvironment, episodes),
        reward_funcs=environment_reward,
    )

Without environments, TRL needs no more than a data set with a column of true answers and the reward
functions of `training.rewards`.
"""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from star_tvr.training.episodes import Episodes
from star_tvr.training.prompts import Message
from star_tvr.training.rewards import Score


class TvrEnvironment:
    """One question at a time, answered in one turn: an environment without tools."""

    def __init__(self, episodes: Episodes) -> None:
        self._episodes = episodes
        self._index = 0

    def reset(self, index: int, **row: Any) -> list[Message]:
        """Ask a question: the parts, pictures among them, that its user message ends with."""
        self._index = index
        return self._episodes.reset(index).messages[-1]["content"]

    def _score(self, completion: Any) -> Score:  # underscored: what is not would be a tool
        return self._episodes.score(self._index, completion)


def question_rows(episodes: Episodes) -> Dataset:
    """A row for each question: what stands before it, and its index, equal within a group.

    The pictures are not in the rows but come with `TvrEnvironment.reset`.
    """
    system = [message for message in episodes[0].prompt if message["role"] == "system"]
    prompt = [*system, {"role": "user", "content": []}]
    return Dataset.from_dict(
        {"prompt": [prompt] * len(episodes), "index": list(range(len(episodes)))}
    )


def environment_reward(
    completions: Sequence[Any], environments: Sequence[TvrEnvironment], **columns: Any
) -> list[float]:
    """A TRL reward function: the whole reward of each answer, from its environment."""
    scores = (e._score(c) for c, e in zip(completions, environments, strict=True))
    return [score.total for score in scores]

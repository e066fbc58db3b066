"""A data set for reasoning-gym 0.1: `reasoning_gym.create_dataset("tvr", dataset=…, split=…)`.

Importing this module registers it.
"""

from dataclasses import dataclass
from typing import Any

from reasoning_gym.dataset import ProceduralDataset
from reasoning_gym.factory import register_dataset

from star_tvr.training.answers import compose, parse_truth
from star_tvr.training.episodes import Episodes

NAME = "tvr"


@dataclass
class TvrConfig:
    """What to ask: the arguments of `Episodes`. Its size is that of the split."""

    dataset: str = ""
    split: str = "cross-view/train"
    reward: str = "star"
    seed: int | None = None
    """Not used: the questions are stored."""


class TvrDataset(ProceduralDataset):
    """Questions as text with `<image>` twice; the pictures are `entry["metadata"]["images"]`."""

    def __init__(self, config: TvrConfig) -> None:
        self.episodes = Episodes(config.dataset, config.split, config.reward)
        super().__init__(config, config.seed or 0, len(self.episodes))

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """One entry: `question`, `answer` (the truth) and `metadata`."""
        episode = self.episodes[idx]
        metadata = {
            "source_dataset": NAME,
            "source_index": episode.index,
            "images": list(episode.images),
            **episode.pair.to_json(),
        }
        truth = self.episodes.truth(idx)
        return {"question": episode.text, "answer": truth, "metadata": metadata}

    def score_answer(self, answer: str | None, entry: dict[str, Any]) -> float:
        """The reward over that of the right answer, from 0 (silence, or worse) to 1.

        Args:
            answer: a whole completion, with its tags.
            entry: as `__getitem__` gives it.
        """
        truth = entry["answer"]
        best = self.episodes.score(truth, compose(parse_truth(truth))).total
        return max(0.0, self.episodes.score(truth, answer or "").total / best)


register_dataset(NAME, TvrDataset, TvrConfig)

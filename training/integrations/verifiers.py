"""A taskset for verifiers 0.4. examples/environments/verifiers/ is a package that exports it.

eval tvr --env.taskset.dataset data/star --env.taskset.split cross-view/test_ood
"""

from collections.abc import Iterable
from pathlib import Path

import verifiers.v1 as vf

from star_tvr.training.answers import compose, parse_truth
from star_tvr.training.episodes import Episodes
from star_tvr.training.rewards import score


class TvrTaskConfig(vf.TaskConfig):
    """How answers are scored."""

    reward: str = "star"
    """A preset: docs/rewards.md lists them."""


class TvrConfig(vf.TasksetConfig):
    """Which questions are asked."""

    dataset: Path = Path("data/star")
    """Folder of the data set, or of its export in parquet."""
    split: str = "cross-view/train"
    """Such as `cross-view/test_ood`."""
    task: TvrTaskConfig = TvrTaskConfig()


class TvrData(vf.TaskData):
    """A question and its true answer; only `prompt` and `system_prompt` are shown to the model."""

    truth: str


class TvrTask(vf.Task[TvrData, vf.State, TvrTaskConfig]):
    """One question, answered in one turn. The two rewards add up to the whole one."""

    @vf.reward
    async def format(self, trace: vf.Trace) -> float:
        """The reward of the form."""
        return score(trace.last_reply, self.data.truth, self.config.reward).format

    @vf.reward
    async def accuracy(self, trace: vf.Trace) -> float:
        """The reward of the answer."""
        return score(trace.last_reply, self.data.truth, self.config.reward).accuracy

    async def validate(self, runtime: vf.Runtime) -> bool:
        """Whether the true answer misses nothing: for `vf-validate`."""
        answer = compose(parse_truth(self.data.truth))
        return not score(answer, self.data.truth, self.config.reward).unmatched


class TvrTaskset(vf.Taskset[TvrTask, TvrConfig]):
    """The questions of a split, in its order."""

    def load(self) -> Iterable[TvrTask]:
        """One task for every pair of pictures; they are read as they are needed."""
        episodes = Episodes(self.config.dataset, self.config.split, self.config.task.reward)
        for index, episode in enumerate(episodes):
            system, user = episode.openai_messages
            data = TvrData(
                name=f"{episode.split}/{index}",
                prompt=[vf.UserMessage(content=user["content"])],
                system_prompt=system["content"],
                truth=episodes.truth(index),
            )
            yield TvrTask(data, self.config.task)

"""An environment for OpenEnv 0.10, served over HTTP.

    TVR_DATASET=data/star uvicorn star_tvr.training.integrations.openenv:make_app --factory

`reset(split=…, index=…)` shows a question, one `step` with the answer ends the episode with its
reward. examples/environments/openenv/ holds the `openenv.yaml` of a deployment.
"""

import os
from functools import partial
from typing import Any

from openenv.core.env_server import Action, Environment, Observation, State, create_app

from star_tvr.training.episodes import Episodes


class TvrAction(Action):
    """The answer to a question."""

    completion: str


class TvrObservation(Observation):
    """A question at the start; nothing new at the end, when `done` and `reward` are set.

    Attributes:
        messages: chat messages, with pictures as data URLs, as OpenAI's interface has them.
        parts: of the reward: `format` and `accuracy`.
    """

    messages: list[dict[str, Any]] = []
    parts: dict[str, float] = {}


class TvrState(State):
    """Which question is asked."""

    split: str = ""
    index: int = 0


class TvrEnvironment(Environment[TvrAction, TvrObservation, TvrState]):
    """The questions of a data set, and OpenEnv's TaskProvider to find them."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, episodes: Episodes) -> None:
        super().__init__()
        self._episodes = episodes
        self._state = TvrState(split=episodes.split)

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **task: Any
    ) -> TvrObservation:
        """Ask question `index` of `split`; without an index, the one that `seed` picks."""
        split = task.get("split") or self._episodes.split
        index = task.get("index", (seed or 0) % self._episodes.count(split))
        episode = self._episodes.reset(index, split)
        self._state = TvrState(episode_id=episode_id, split=split, index=episode.index)
        return TvrObservation(messages=episode.openai_messages)

    def step(
        self, action: TvrAction, timeout_s: float | None = None, **options: Any
    ) -> TvrObservation:
        """Score the answer; the episode is over."""
        self._state.step_count += 1
        now = self._state
        score = self._episodes.score(now.index, action.completion, now.split)
        parts = {"format": score.format, "accuracy": score.accuracy}
        return TvrObservation(done=True, reward=score.total, parts=parts)

    @property
    def state(self) -> TvrState:
        """Which question is asked."""
        return self._state

    def list_splits(self) -> list[str]:
        """The names of all splits."""
        return self._episodes.splits()

    def num_tasks(self, split: str) -> int:
        """How many questions a split has."""
        return self._episodes.count(split)

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """What `reset` is to be given for a question. Raises IndexError if there is none."""
        pair = self._episodes.reset(index, split).pair
        return {"split": split, "index": index, **pair.to_json()}

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[dict[str, Any]]:
        """The tasks of a slice of a split."""
        numbers = range(self.num_tasks(split))[start:stop]
        return [self.get_task(split, index) for index in numbers]

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """All tasks of a split."""
        return self.get_task_range(split)


def make_app() -> Any:
    """The application: of the data set TVR_DATASET, split TVR_SPLIT and preset TVR_REWARD."""
    episodes = Episodes(
        os.environ["TVR_DATASET"],
        os.environ.get("TVR_SPLIT", "cross-view/train"),
        os.environ.get("TVR_REWARD", "star"),
    )
    return create_app(partial(TvrEnvironment, episodes), TvrAction, TvrObservation, env_name="tvr")

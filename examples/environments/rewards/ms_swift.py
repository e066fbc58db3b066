"""The reward for ms-swift 4, of the name tvr.

    swift rlhf --rlhf_type grpo --external_plugins ms_swift.py --reward_funcs tvr …

`tvr export --format sharegpt` writes the data, with the true answers in the column `solution`.
"""

from typing import Any

from swift.rewards import ORM, orms

from star_tvr.training.rewards import combined_reward


class TvrReward(ORM):
    """Form and answer together, with the preset star."""

    reward = staticmethod(combined_reward("star"))

    def __call__(self, completions: list[str], **columns: Any) -> list[float | None]:
        """One number for each completion; `columns` are those of the data set."""
        return self.reward(completions, **columns)


orms["tvr"] = TvrReward

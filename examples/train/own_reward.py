"""A reward of one's own: does an answer name as many changes as there are?

tvr train grpo examples/train/tiny-cpu.yaml \
    --set 'reward.extra={"examples/train/own_reward.py:count_reward": 0.5}'
"""

from collections.abc import Sequence
from typing import Any

from star_tvr.training.answers import completion_text, parse, parse_truth


def count_reward(completions: Sequence[Any], truth: Sequence[str], **columns: Any) -> list[float]:
    """1 for the right number of changes, less the farther it is from that, 0 for none.

    Args:
        completions: chat messages, `[{"role": "assistant", "content": …}]` each.
        truth: the true answers of the same questions.
        columns: the others, see docs/rewards.md.
    """
    rewards = []
    for completion, answer in zip(completions, truth, strict=True):
        said = len(parse(completion_text(completion)).predictions)
        wanted = len(parse_truth(answer))
        rewards.append(min(said, wanted) / max(said, wanted))
    return rewards

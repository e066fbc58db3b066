"""reasoning-gym's own factory makes the data set, and its contract scores it."""

import sys

import numpy as np
import reasoning_gym
from reporting import SPLIT, milliseconds, report, right_answer

import star_tvr.training.integrations.reasoning_gym  # noqa: F401  (registers it)
from star_tvr import Episodes

folder = sys.argv[1]
dataset = reasoning_gym.create_dataset("tvr", dataset=folder, split=SPLIT)
episodes = Episodes(folder, SPLIT)
assert len(dataset) == len(episodes) == len(list(dataset))
entries = [dataset[k] for k in range(len(dataset))]
for entry, again in zip(entries, dataset, strict=True):
    assert (
        set(entry) == {"question", "answer", "metadata"} and entry["question"].count("<image>") == 2
    )
    pairs = zip(entry["metadata"]["images"], again["metadata"]["images"], strict=True)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)
report(
    "reasoning-gym",
    "create_dataset, score_answer",
    [dataset.score_answer(right_answer(e["answer"]), e) for e in entries],
    [dataset.score_answer(None, e) for e in entries],
    [1.0] * len(entries),
    [0.0] * len(entries),
    milliseconds(lambda: dataset[0]),
)

"""verl's own data set class reads the export, and its own loader finds the reward."""

import sys
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from PIL import Image
from reporting import SPLIT, expected, milliseconds, report, right_answer
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

from star_tvr import Episodes

folder, export = sys.argv[1:3]
episodes = Episodes(folder, SPLIT)


class NoProcessor:
    """verl wants one to be there; with `filter_overlong_prompts` off it is never called."""


config = OmegaConf.create(
    {"filter_overlong_prompts": False, "cache_dir": str(Path.cwd() / "cache")}
)
files = [f"{export}/{SPLIT}.parquet"]
dataset = RLHFDataset(files, tokenizer=None, config=config, processor=NoProcessor())
assert len(dataset) == len(episodes)
path = {"path": "pkg://star_tvr.training.integrations.verl", "name": "compute_score"}
compute_score = get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": path}}))

oracle, silence = [], []
for index, (row, episode) in enumerate(zip(dataset, episodes, strict=True)):
    shown = [p for m in row["raw_prompt"] for p in m["content"] if p["type"] == "image"]
    for part, image in zip(shown, episode.images, strict=True):
        assert isinstance(part["image"], Image.Image)
        assert np.array_equal(np.asarray(part["image"]), np.asarray(image))
    words = [p["text"] for m in row["raw_prompt"] for p in m["content"] if p["type"] == "text"]
    asked = [p["text"] for m in episode.prompt for p in m["content"] if p["type"] == "text"]
    assert " ".join(words).split() == " ".join(asked).split()
    assert row["index"] == index and row["reward_model"]["ground_truth"] == episodes.truth(index)
    for scores, answer in (
        (oracle, right_answer(episodes.truth(index))),
        (silence, ""),
    ):
        found = compute_score(
            data_source=row["data_source"],
            solution_str=answer,
            ground_truth=row["reward_model"]["ground_truth"],
            extra_info=row["extra_info"],
        )
        scores.append(found["score"])
assert len(collate_fn([dataset[0], dataset[1]])["raw_prompt"]) == 2
due = [expected(episodes, k) for k in range(len(episodes))]
report(
    "verl",
    "RLHFDataset, collate_fn, get_custom_reward_fn",
    oracle,
    silence,
    [best for best, _ in due],
    [least for _, least in due],
    milliseconds(lambda: dataset[0]),
)

"""TRL's GRPOTrainer takes a step with environments; members of a group see the same pictures."""

import sys
from functools import partial
from pathlib import Path

import trl
from reporting import SPLIT, expected, milliseconds, report, right_answer
from trl import GRPOConfig, GRPOTrainer

from star_tvr import Episodes, load_dataset
from star_tvr.training.integrations.trl import (
    TvrEnvironment,
    environment_reward,
    question_rows,
)
from star_tvr.training.models import load_model, load_processor, quiet_libraries
from star_tvr.training.tiny_models import build_tiny

folder = sys.argv[1]
quiet_libraries()
episodes = Episodes(folder, SPLIT)
model = str(build_tiny("tiny", Path("tiny"), load_dataset(folder).world, seed=1))
processor = load_processor(model)
templates = Path(trl.__file__).parent / "chat_templates"  # TRL wants one that knows tools
processor.chat_template = (templates / "qwen3_vl.jinja").read_text()
shown, said = [], []


class Watched(TvrEnvironment):
    """It also notes which pictures it showed."""

    def reset(self, index, **row):
        """As its parent does."""
        parts = super().reset(index, **row)
        shown.append((index, [p["image"].tobytes() for p in parts if p["type"] == "image"]))
        return parts


def watched_reward(completions, environments, **columns):
    rewards = environment_reward(completions, environments)
    said.extend(zip(columns["index"], completions, rewards, strict=True))
    return rewards


trainer = GRPOTrainer(
    model=load_model(model),
    args=GRPOConfig(
        output_dir="run",
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=4,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
    ),
    train_dataset=question_rows(episodes),
    processing_class=processor,
    environment_factory=partial(Watched, episodes),
    reward_funcs=watched_reward,
)
trainer.train()
assert len(shown) == len(said) == 4
groups = {index: [images for k, images in shown if k == index] for index, _ in shown}
assert len(groups) == 2
for index, (first, second) in groups.items():
    assert first == second == [image.tobytes() for image in episodes[index].images]
for index, completion, reward in said:
    assert reward == episodes.score(index, completion).total

environments = [TvrEnvironment(episodes) for _ in episodes]
for index, environment in enumerate(environments):
    environment.reset(index)
due = [expected(episodes, k) for k in range(len(episodes))]
answers = [
    [{"role": "assistant", "content": right_answer(episodes.truth(k))}] for k in range(len(due))
]
report(
    "trl",
    "GRPOTrainer(environment_factory=…), a step with a tiny model",
    environment_reward(answers, environments),
    environment_reward([""] * len(due), environments),
    [best for best, _ in due],
    [least for _, least in due],
    milliseconds(lambda: environments[0].reset(0)),
)

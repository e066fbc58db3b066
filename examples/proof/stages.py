"""Which commands the proof consists of, as arguments of `tvr`. Nothing is run here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from star_tvr.training.config import Kind

HERE = Path(__file__).parent
TESTS = ("test_id", "test_ood")

SKILL = 0.5
"""TAcc on the validation scenes from which on reinforcement begins."""


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        same, validation: scenes for supervised training, and how many of them are for validation.
        cross, test: scenes for the rest, and how many of them are for each of the two tests.
        parts: of supervised training, after which the proof goes on whatever the skill.
        training: changes to all training configurations.
    """

    same: int
    validation: int
    cross: int
    test: int
    parts: int
    training: Mapping[str, object]


FULL = Scale(4200, 200, 2200, 500, 4, {})
SMALL = Scale(8, 2, 16, 6, 1, {"max_steps": 2, "per_device_train_batch_size": 16})
"""The proof, and what shows in a few minutes whether it would run."""


@dataclass(frozen=True)
class Policy:
    """One model that is trained and tested.

    Attributes:
        name: of its folder.
        title: what it is, for people; policies that differ in the seed alone share it.
        kind: `sft` or `grpo`.
        config: a file of this folder.
        changes: `key: value` on top of it.
        start: the policy it goes on from; "" is the skilled model.
        adapter: whether it is a LoRA adapter on what it goes on from.
    """

    name: str
    title: str
    kind: Kind
    config: str
    changes: Mapping[str, object] = field(default_factory=dict, hash=False)
    start: str = ""
    adapter: bool = False

    @property
    def scratch(self) -> bool:
        """Whether it begins from random weights."""
        return self.config == "sft.yaml"


def seeds(name: str, title: str, count: int, **changes: object) -> list[Policy]:
    """The same GRPO run with several seeds."""
    return [
        Policy(f"{name}-{seed}", title, "grpo", "grpo.yaml", {**changes, "seed": seed})
        for seed in range(count)
    ]


def reward(preset: str, count: int) -> list[Policy]:
    """GRPO with one of the reward presets."""
    return seeds(preset, f"GRPO, {preset}", count, **{"reward.preset": preset})


SAME_QUESTIONS = {"per_device_train_batch_size": 16}
"""As many as GRPO asks in a step, each of them eight times."""

CORE = [
    *reward("star", 2),
    *reward("no-wrong", 2),
    Policy("control-0", "SFT, 8 times as many questions", "sft", "control.yaml"),
    Policy("control-same-0", "SFT, the same questions", "sft", "control.yaml", SAME_QUESTIONS),
]
"""What has to hold."""

OTHERS = ("binary", "even", "even-bonus", "bonus", "strict")
BETTER = ("binary", "even", "strict", "reason-rft")
"""Rewards that might serve TAcc better than `star`, and those that did so with the first seed."""

ABLATIONS = ("no-object", "no-attribute", "no-missing", "count-gap", "reason-rft")

TRACES = "{style: compact, references: 1, relations: 1}"
LORA = {"lora": "{r: 16, alpha: 32}", "learning_rate": 1e-3}

FURTHER = [
    Policy(
        "trace-sft",
        "SFT with full traces, as long as the first part",
        "sft",
        "sft.yaml",
        {"completion": TRACES},
    ),
    *reward("star", 3)[2:],
    *reward("no-wrong", 3)[2:],
    *(reward(preset, 1)[0] for preset in (*OTHERS, *ABLATIONS)),
    *(policy for preset in BETTER for policy in reward(preset, 3)[1:]),
    Policy(
        "answer-sft",
        "SFT on answers alone, as long as the first part",
        "sft",
        "sft.yaml",
        {"completion.style": "answer"},
    ),
    *seeds("same-view", "GRPO, star, one view", 1, **{"rows.views": "split"}),
    Policy("lora-0", "GRPO, star, LoRA", "grpo", "grpo.yaml", LORA, adapter=True),
    *(
        Policy(name, title, "grpo", "grpo.yaml", {"max_completion_length": 96, **more}, "trace-sft")
        for name, title, more in (
            ("trace-star", "GRPO, star, after full traces", {}),
            ("trace-reference", "the same with R_ref", {"reward.extra.reference": 1.0}),
        )
    ),
]
"""What is reported as found."""


def steps_of_skill(out: Path, part: int, scale: Scale) -> list[list[str]]:
    """One part of the supervised training, and its validation."""
    folder = out / f"sft-{part}"
    changes: dict[str, object] = {"dataset": out / "same-view", "output_dir": folder}
    if part > 1:  # a second cosine, from what the first one reached
        changes |= {"model": out / f"sft-{part - 1}", "seed": part - 1}
        changes |= {"max_steps": 1200, "learning_rate": 1.5e-3}
    changes |= scale.training
    return [
        ["train", "sft", str(HERE / "sft.yaml"), *overrides(changes)],
        evaluation(
            out / "same-view",
            "random/val",
            out / "evaluations" / f"val-{part}",
            *("--model", str(folder)),
        ),
    ]


def data(out: Path, jobs: int, scale: Scale) -> list[list[str]]:
    """Rendering and dividing."""
    same, cross = str(out / "same-view"), str(out / "cross-view")
    render = ["--config", "proof", "--workers", str(jobs)]
    return [
        [
            *["render", same, "--num-samples", str(scale.same), *render],
            *["--seed", "0", "--set", "cameras.final=[center]"],
        ],
        ["split", same, "--scheme", "random", "--proportions", f"val={scale.validation},test_id=0"],
        ["render", cross, "--num-samples", str(scale.cross), *render, "--seed", "1"],
        ["split", cross, "--proportions", f"val=0,test_id={scale.test},test_ood={scale.test}"],
    ]


def commands(policy: Policy, out: Path, skilled: Path, scale: Scale) -> list[list[str]]:
    """Training one policy and testing it."""
    folder = out / policy.name
    start = out / policy.start if policy.start else skilled
    changes: dict[str, object] = {
        **({} if policy.scratch else {"model": start}),
        "dataset": out / ("same-view" if policy.scratch else "cross-view"),
        "output_dir": folder,
        **policy.changes,
        **scale.training,
    }
    adapted = ["--model", str(start), "--adapter", str(folder)]
    model = adapted if policy.adapter else ["--model", str(folder)]
    return [
        ["train", policy.kind, str(HERE / policy.config), *overrides(changes)],
        *tests(out, policy.name, *model),
    ]


def controls(out: Path, skilled: Path) -> list[list[list[str]]]:
    """Tests of what was there before reinforcement, and of what the pictures are needed for."""
    models = {
        "untrained": ["--model", str(out / "sft-1" / "base")],
        "sft-1": ["--model", str(out / "sft-1")],
        "skilled": ["--model", str(skilled)],
        "exchanged": ["--model", str(skilled), "--shuffle-images"],
    }
    return [tests(out, name, *model) for name, model in models.items()]


def tests(out: Path, name: str, *model: str) -> list[list[str]]:
    """The evaluations of one model, which `--model …` names."""
    return [
        evaluation(
            out / "cross-view",
            f"cross-view/{split}",
            out / "evaluations" / f"{name}-{split}",
            *model,
        )
        for split in TESTS
    ]


def evaluation(dataset: Path, split: str, out: Path, *model: str) -> list[str]:
    """One evaluation."""
    return [
        *["evaluate", str(dataset), "--split", split, *model, "--out", str(out)],
        *["--batch-size", "100", "--max-new-tokens", "96"],
    ]


def overrides(changes: Mapping[str, object]) -> Sequence[str]:
    """`--set key=value` for every change."""
    return [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]

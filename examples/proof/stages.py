"""Which commands the proof consists of, as arguments of `tvr`. Nothing is run here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
TESTS = ("test_id", "test_ood")

SKILL = 0.5
"""TAcc on the validation scenes from which on reinforcement begins."""

MOST_PARTS = 4
"""Parts of supervised training after which the proof goes on whatever the skill."""

SAME_SCENES, CROSS_SCENES = 4200, 2200
"""Scenes for supervised training (200 of them for validation); for the rest (1,000 for tests)."""


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
    kind: str
    config: str
    changes: Mapping[str, object] = field(default_factory=dict, hash=False)
    start: str = ""
    adapter: bool = False


def seeds(name: str, title: str, count: int, **changes: object) -> list[Policy]:
    """The same GRPO run with several seeds."""
    return [
        Policy(f"{name}-{seed}", title, "grpo", "grpo.yaml", {**changes, "seed": seed})
        for seed in range(count)
    ]


def reward(preset: str, count: int) -> list[Policy]:
    """GRPO with one of the reward presets."""
    return seeds(preset, f"GRPO, {preset}", count, **{"reward.preset": preset})


CORE = [
    *reward("star", 2),
    *reward("no-wrong", 2),
    Policy("control-0", "SFT on the same scenes", "sft", "control.yaml"),
]
"""What has to hold."""

OURS = ("binary", "even", "even-bonus", "bonus", "strict")
"""Presets that might serve TAcc better than `star`, whose name is from the paper or ours."""

FURTHER = [
    *reward("star", 3)[2:],
    *reward("no-wrong", 3)[2:],
    *(policy for preset in OURS for policy in reward(preset, 3)),
    Policy(
        "lora-0",
        "GRPO, star, LoRA",
        "grpo",
        "grpo.yaml",
        {"lora": "{r: 16, alpha: 32}", "learning_rate": 1e-3},
        adapter=True,
    ),
    *seeds("same-view", "GRPO, star, one view", 1, **{"rows.views": "split"}),
    Policy(
        "answer-sft", "SFT without reasoning", "sft", "sft.yaml", {"completion.style": "answer"}
    ),
    Policy(
        "trace-sft",
        "SFT with full traces",
        "sft",
        "sft.yaml",
        {"completion": "{style: compact, references: 1, relations: 1}"},
    ),
    Policy(
        "trace-star",
        "GRPO, star, full traces",
        "grpo",
        "grpo.yaml",
        {"max_completion_length": 96},
        start="trace-sft",
    ),
    Policy(
        "trace-reference",
        "GRPO, star and R_ref, full traces",
        "grpo",
        "grpo.yaml",
        {"max_completion_length": 96, "reward.extra.reference": 1.0},
        start="trace-sft",
    ),
    *(
        p
        for preset in ("no-object", "no-attribute", "no-missing", "count-gap", "reason-rft")
        for p in reward(preset, 1)
    ),
]
"""What is reported as found."""


def steps_of_skill(out: Path, part: int) -> list[list[str]]:
    """One part of the supervised training, and its validation."""
    folder = out / f"sft-{part}"
    changes: dict[str, object] = {"dataset": out / "same-view", "output_dir": folder}
    if part > 1:  # a second cosine, from what the first one reached
        changes |= {"model": out / f"sft-{part - 1}", "seed": part - 1}
        changes |= {"max_steps": 1200, "learning_rate": 1.5e-3}
    return [
        ["train", "sft", str(HERE / "sft.yaml"), *overrides(changes)],
        evaluation(
            out / "same-view",
            "random/val",
            out / "evaluations" / f"val-{part}",
            *("--model", str(folder)),
        ),
    ]


def data(out: Path, jobs: int) -> list[list[str]]:
    """Rendering and dividing."""
    same, cross = str(out / "same-view"), str(out / "cross-view")
    render = ["--config", "proof", "--workers", str(jobs)]
    return [
        [
            *["render", same, "--num-samples", str(SAME_SCENES), *render],
            *["--seed", "0", "--set", "cameras.final=[center]"],
        ],
        ["split", same, "--scheme", "random", "--proportions", "val=200,test_id=0"],
        ["render", cross, "--num-samples", str(CROSS_SCENES), *render, "--seed", "1"],
        ["split", cross, "--proportions", "val=0,test_id=500,test_ood=500"],
    ]


def commands(policy: Policy, out: Path, skilled: Path) -> list[list[str]]:
    """Training one policy and testing it."""
    folder = out / policy.name
    scratch = policy.config == "sft.yaml"
    start = out / policy.start if policy.start else skilled
    changes: dict[str, object] = {
        **({} if scratch else {"model": start}),
        "dataset": out / ("same-view" if scratch else "cross-view"),
        "output_dir": folder,
        **policy.changes,
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
        "exchanged": ["--model", str(skilled), "--exchange-images"],
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

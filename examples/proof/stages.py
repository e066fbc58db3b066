"""Which commands of `tvr` the proof consists of, and which needs which. Nothing is run here."""

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
class Stage:
    """One command.

    Attributes:
        name: of its record and its log.
        arguments: of `tvr`.
        after: the stage that has to be done before it, if any of those that run together.
    """

    name: str
    arguments: list[str]
    after: str = ""


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


def data(out: Path, jobs: int, scale: Scale) -> list[Stage]:
    """Rendering and dividing."""
    same, cross = str(out / "same-view"), str(out / "cross-view")
    render = ["--config", "proof", "--workers", str(jobs)]
    one_view = ["--num-samples", str(scale.same), "--seed", "0", "--set", "cameras.final=[center]"]
    all_views = ["--num-samples", str(scale.cross), "--seed", "1"]
    validation = ["--scheme", "random", "--proportions", f"val={scale.validation},test_id=0"]
    both_tests = ["--proportions", f"val=0,test_id={scale.test},test_ood={scale.test}"]
    return [
        Stage("render-same-view", ["render", same, *render, *one_view]),
        Stage("split-same-view", ["split", same, *validation], after="render-same-view"),
        Stage("render-cross-view", ["render", cross, *render, *all_views]),
        Stage("split-cross-view", ["split", cross, *both_tests], after="render-cross-view"),
    ]


def supervised(out: Path, part: int, scale: Scale) -> list[Stage]:
    """One part of the supervised training, and its validation."""
    changes: dict[str, object] = {"dataset": out / "same-view"}
    if part > 1:  # a second cosine, from what the first one reached
        changes |= {"model": out / f"sft-{part - 1}", "seed": part - 1}
        changes |= {"max_steps": 1200, "learning_rate": 1.5e-3}
    train = training(out / f"sft-{part}", "sft", "sft.yaml", {**changes, **scale.training})
    model = ["--model", str(out / f"sft-{part}")]
    return [train, evaluation(out, f"val-{part}", "same-view", "random/val", model, train.name)]


def stages_of(policy: Policy, out: Path, skilled: Path, scale: Scale) -> list[Stage]:
    """Training one policy, from the skilled model if it does not say otherwise, and testing it."""
    folder, start = out / policy.name, out / policy.start if policy.start else skilled
    changes: dict[str, object] = {
        **({} if policy.scratch else {"model": start}),
        "dataset": out / ("same-view" if policy.scratch else "cross-view"),
        **policy.changes,
        **scale.training,
    }
    after = f"train-{policy.start}" if policy.start else ""
    train = training(folder, policy.kind, policy.config, changes, after)
    adapted = ["--model", str(start), "--adapter", str(folder)]
    model = adapted if policy.adapter else ["--model", str(folder)]
    return [train, *tests(out, policy.name, model, after=train.name)]


def controls(out: Path, skilled: Path) -> list[Stage]:
    """Tests of what was there before reinforcement, and of what the pictures are needed for."""
    models = {
        "untrained": ["--model", str(out / "sft-1" / "base")],
        "sft-1": ["--model", str(out / "sft-1")],
        "skilled": ["--model", str(skilled)],
        "exchanged": ["--model", str(skilled), "--shuffle-images"],
    }
    return [stage for name, model in models.items() for stage in tests(out, name, model)]


def training(
    folder: Path, kind: Kind, config: str, changes: Mapping[str, object], after: str = ""
) -> Stage:
    """One training, with changes to a file of this folder."""
    changes = {"output_dir": folder, **changes}
    overrides = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    return Stage(f"train-{folder.name}", ["train", kind, str(HERE / config), *overrides], after)


def tests(out: Path, name: str, model: Sequence[str], after: str = "") -> list[Stage]:
    """The evaluations of one model, which `--model …` names."""
    return [
        evaluation(out, f"{name}-{split}", "cross-view", f"cross-view/{split}", model, after)
        for split in TESTS
    ]


def evaluation(
    out: Path, name: str, dataset: str, split: str, model: Sequence[str], after: str = ""
) -> Stage:
    """One evaluation."""
    arguments = ["evaluate", str(out / dataset), "--split", split, *model]
    arguments += ["--out", str(out / "evaluations" / name)]
    arguments += ["--batch-size", "100", "--max-new-tokens", "96"]
    return Stage(f"evaluate-{name}", arguments, after)

"""The configuration of a training run: what it is and how it is read.

It holds this project's keys and all of TRL's. Importing this module is cheap; TRL is imported when
a configuration is read.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from star_tvr.extras import require
from star_tvr.scenes.errors import ConfigError
from star_tvr.schemas.checks import check
from star_tvr.schemas.config import merge, parse_override, read_yaml
from star_tvr.training.rewards import Matching, Weights, resolve_weights

Kind = Literal["sft", "grpo"]

STAGES: Mapping[str, Kind] = {"cold-start": "sft", "grpo": "grpo"}
"""The blocks of a configuration with two stages, in the order in which they are run."""

TINY = ("tiny", "tiny-idefics3", "tiny-64", "small-64")
"""Models that are built on the spot, see `training.tiny_models`."""

Style = Literal["full", "compact"]

Location = Literal["pixel", "cell", "none"]

Order = Literal["index", "left-to-right", "near-to-far"]

SYSTEM = (
    "You compare two pictures of one scene and name every change between them. "
    "Reason step by step inside <think> </think>, then give the changes inside "
    "<answer> </answer>, and write nothing else."
)


@dataclass(frozen=True)
class Lora:
    """The `lora` block of a training configuration.

    Attributes:
        r: rank.
        alpha: the update is scaled by alpha / r.
        targets: module names, or a regular expression over full module names; None is every
            linear layer of the language model, leaving the vision tower as it is.
    """

    r: int = 16
    alpha: float = 32
    targets: str | tuple[str, ...] | None = None


@dataclass(frozen=True)
class PromptConfig:
    """How questions are worded. The `prompt` block of a training configuration.

    Attributes:
        style: `full` explains the task in sentences, for pretrained models; `compact` only lists
            the objects, for models that learn the task from nothing.
        location: how an object is pointed at in the first picture, so that two identical objects
            can be told apart: `pixel` (centre, origin at the top left), `cell` (column and row of
            a coarse grid, independent of the picture's size), or `none`.
        cells: columns and rows of that grid.
        order: of the list of objects: by `index`, or as the first picture's camera sees their
            centres. An object keeps its index, which answers name it by.
        reasoning: `free` leaves it to the model; `steps` also asks, in the `full` style, for
            reference objects, relations and a map in the notation of docs/traces.md.
        boxes: with `steps`, also ask for boxes.
        system: the system message of the `full` style.
    """

    style: Style = "full"
    location: Location = "pixel"
    cells: int = 8
    order: Order = "index"
    reasoning: Literal["free", "steps"] = "free"
    boxes: bool = False
    system: str = SYSTEM


@dataclass(frozen=True)
class RowsConfig:
    """Which questions are asked, and when. The `rows` block of a training configuration.

    Attributes:
        views: `split` takes the split's own pairs; `all` every pair of an initial and a final
            camera that the samples of the split have; `same` those of all that show one view
            twice, and `cross` those that do not.
        order: `random`, anew in every epoch; `easy-first`, by difficulty, in random order among
            equals; `stored`, as in the split.
        shuffle_objects: number the objects of every sample anew in every epoch, so that an index
            says nothing about an object. Question, truth and reasoning agree on the numbers.
        mirror: show half of the samples of every epoch as in a mirror.
        reverse: ask about half of the samples of every epoch with time reversed.
        streaming: read an export from its beginning to its end in every epoch. A random order then
            draws among the next 200 rows, and the files in random order.
    """

    views: Literal["split", "same", "cross", "all"] = "split"
    order: Literal["random", "easy-first", "stored"] = "random"
    shuffle_objects: bool = False
    mirror: bool = False
    reverse: bool = False
    streaming: bool = False


@dataclass(frozen=True)
class TraceConfig:
    """What supervised training teaches. The `completion` block of a training configuration.

    Attributes:
        style: `answer` is the answer alone, with empty reasoning (the paper's STAR-SFT);
            `trace` reasons in sentences, for pretrained models; `compact` says the same in as few
            words as possible, for tiny ones; `attributes` only names, of every object in the
            second picture, the attributes that can change, as they are there.
        references: most reference objects of a sample.
        relations: most relation triplets of a picture.
        objects: most objects of a picture that are named; those that change always are.
        boxes: whether objects are named with their boxes.
    """

    style: Literal["answer", "trace", "compact", "attributes"] = "answer"
    references: int = 2
    relations: int = 3
    objects: int = 10
    boxes: bool = False

    def __post_init__(self) -> None:
        if str(self.style) == "looks":  # what `attributes` was called before
            object.__setattr__(self, "style", "attributes")


@dataclass(frozen=True)
class Extra:
    """The `reward.extra` block: what each further reward is multiplied by; 0 turns it off."""

    reference: float = 0.0
    consistency: float = 0.0
    grounding: float = 0.0


@dataclass(frozen=True)
class Reward:
    """The `reward` block: a preset of `training.rewards`, changes to it, the matching, and more.

    Attributes:
        extra: further rewards, see `training.scene_rewards`.
    """

    preset: str = "star"
    matching: Matching = "one-to-one"
    weights: Mapping[str, Any] = field(default_factory=dict)
    extra: Extra = Extra()

    def resolve(self) -> Weights:
        """The weights with the changes on top. Raises ConfigError."""
        return resolve_weights(self.preset, self.weights)


@dataclass(frozen=True)
class TrainConfig:
    """A training run, resolved.

    Attributes:
        kind: `sft` or `grpo`; the command decides it.
        source: the file it came from, for messages.
        model: a folder, a hub name, or one of `TINY`.
        adapter: a stored LoRA adapter of the model to go on training, or None.
        allow_download: whether the hub may be asked for the model.
        dataset: the data set's folder.
        split: such as `cross-view/train`.
        output_dir: the run's folder.
        lora: the adapters to add; None trains all weights (or `adapter`).
        reward: what GRPO maximises.
        prompt: the wording of the questions.
        completion: what SFT teaches.
        rows: which questions are asked, and when.
        processor: arguments of the processor, for instance `max_pixels`.
        trainer: fields of TRL's configuration: this project's defaults, then the file's values.
    """

    kind: Kind
    source: str
    model: str
    dataset: Path
    split: str
    output_dir: Path
    trainer: Mapping[str, Any]
    adapter: str | None = None
    allow_download: bool = False
    lora: Lora | None = None
    reward: Reward = Reward()
    prompt: PromptConfig = PromptConfig()
    completion: TraceConfig = TraceConfig()
    rows: RowsConfig = RowsConfig()
    processor: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The seed of weights, data order and sampling."""
        return int(self.trainer["seed"])

    def to_json(self) -> dict[str, Any]:
        """The form stored in the run's folder, which can be used as a configuration again."""
        data: dict[str, Any] = {
            "model": self.model,
            "adapter": self.adapter,
            "allow_download": self.allow_download,
            "dataset": str(self.dataset),
            "split": self.split,
            "output_dir": str(self.output_dir),
            "lora": self.lora and _lora_to_json(self.lora),
            "prompt": dataclasses.asdict(self.prompt),
            "rows": dataclasses.asdict(self.rows),
            "processor": dict(self.processor),
        }
        if self.kind == "grpo":
            data["reward"] = dataclasses.asdict(self.reward)
        else:
            data["completion"] = dataclasses.asdict(self.completion)
        return data | dict(self.trainer)


def _lora_to_json(lora: Lora) -> dict[str, Any]:
    targets = list(lora.targets) if isinstance(lora.targets, tuple) else lora.targets
    return {**dataclasses.asdict(lora), "targets": targets}


def base_model(config: TrainConfig) -> str:
    """Where a run's weights come from: for a tiny model, the folder it is built in."""
    return str(config.output_dir / "base") if config.model in TINY else config.model


def defaults(kind: Kind, cpu: bool) -> dict[str, Any]:
    """Where this project departs from TRL's defaults, and why. A configuration overrides them.

    Args:
        kind: of training.
        cpu: whether it runs without a GPU.
    """
    values: dict[str, Any] = {
        "seed": 42,
        "use_cpu": cpu,
        # Half precision and recomputed activations save memory that CPU runs have.
        "bf16": not cpu,
        "gradient_checkpointing": not cpu,
        "dataloader_pin_memory": not cpu,
        "report_to": "tensorboard",
        # The columns truth, sample, initial and final are read by rewards, not by the model.
        "remove_unused_columns": False,
        # A lost model is worse than a NaN in the log: see training.callbacks.
        "logging_nan_inf_filter": False,
        "save_total_limit": 3,
        # `training.pairs` plans the order, so that it can be from easy to hard, and is resumed.
        "shuffle_dataset": False,
        "train_sampling_strategy": "sequential",
    }
    if kind == "sft":
        # Cutting a sequence would cut image tokens, which models refuse.
        return values | {"max_length": None, "logging_steps": 10}
    return values | {
        # No reference model: half the memory, and the rule of recent GRPO work.
        "beta": 0.0,
        "num_generations": 8,
        "max_completion_length": 512,
        # A text that was cut off says nothing about the words before the cut (DAPO, 2503.14476).
        "mask_truncated_completions": True,
        "log_completions": True,
        "num_completions_to_print": 0,
        "logging_steps": 1,
    }


def load_train_config(kind: Kind, path: str | Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a YAML file with `key=value` overrides on top. Paths are relative to where one is.

    Raises:
        ConfigError: unknown key, wrong type, a missing file, or TRL refuses a combination.
    """
    return resolve(kind, _read(path, overrides), str(path))


def load_stages(kind: Kind, path: str | Path, overrides: Iterable[str] = ()) -> list[TrainConfig]:
    """What a file asks for: one run, or two with a block for each: `cold-start` and `grpo`.

    What stands outside the blocks holds for both. Each stage has the folder `output_dir`/its name,
    and the second goes on with what the first one trained. `tvr train sft` runs the first alone.

    Raises:
        ConfigError: as `load_train_config`.
    """
    require("tvr train", "torch", "trl", "peft")
    document, source = _read(path, overrides), str(path)
    if not STAGES.keys() & document.keys():
        return [resolve(kind, document, source)]
    common = {k: v for k, v in document.items() if k not in STAGES}
    stages: list[TrainConfig] = []
    for name, its_kind in STAGES.items():
        if name not in document or (kind == "sft" and its_kind != "sft"):
            continue
        block = document[name] or {}
        if not isinstance(block, dict):
            raise ConfigError(f"{source}: {name}: must be a block of keys")
        merged = merge(common, block)
        if isinstance(common.get("output_dir"), str) and "output_dir" not in block:
            merged["output_dir"] = str(Path(common["output_dir"]) / name)
        if stages and not {"model", "adapter"} & block.keys():
            merged |= _continued(stages[-1])
        stages.append(resolve(its_kind, merged, f"{source}: {name}"))
    if not stages:
        raise ConfigError(f"{source}: cold-start: there is no such block to run by tvr train sft")
    return stages


def _continued(first: TrainConfig) -> dict[str, Any]:
    """The keys that make a stage go on with what another one trained."""
    if first.lora is None and first.adapter is None:
        return {"model": str(first.output_dir)}
    return {"model": base_model(first), "adapter": str(first.output_dir), "lora": None}


def _read(path: str | Path, overrides: Iterable[str]) -> dict[str, Any]:
    document = read_yaml(Path(path))
    for override in overrides:
        document = merge(document, parse_override(override))
    return document


def resolve(kind: Kind, document: Mapping[str, Any], source: str) -> TrainConfig:
    """A parsed document as a configuration. See `load_train_config`."""
    check(document, "train", source, ConfigError)
    own = {f.name for f in dataclasses.fields(TrainConfig)} - {"kind", "source", "trainer"}
    theirs = {k: v for k, v in document.items() if k not in own}
    cpu = theirs.get("use_cpu")
    trainer = defaults(kind, cpu if isinstance(cpu, bool) else not cuda_available())
    trainer |= _checked_fields(kind, theirs, own, source)
    if trainer["remove_unused_columns"]:
        raise ConfigError(f"{source}: remove_unused_columns: must be false, or the truth is lost")
    if trainer["shuffle_dataset"] or trainer["train_sampling_strategy"] != "sequential":
        raise ConfigError(f"{source}: shuffle_dataset: leave it out; rows.order says the order")
    if kind == "sft" and "reward" in document:
        raise ConfigError(f"{source}: reward: only for tvr train grpo")
    if kind == "grpo" and "completion" in document:
        raise ConfigError(f"{source}: completion: only for tvr train sft")
    reward = dict(document.get("reward", {}))
    reward["extra"] = Extra(**reward.get("extra", {}))
    lora = document.get("lora")
    if lora is not None and isinstance(lora.get("targets"), list):
        lora = {**lora, "targets": tuple(lora["targets"])}
    config = TrainConfig(
        kind=kind,
        source=source,
        model=document["model"],
        adapter=document.get("adapter"),
        allow_download=document.get("allow_download", False),
        dataset=Path(document["dataset"]),
        split=document["split"],
        output_dir=Path(document["output_dir"]),
        lora=None if lora is None else Lora(**lora),
        reward=Reward(**reward),
        prompt=PromptConfig(**document.get("prompt", {})),
        completion=TraceConfig(**document.get("completion", {})),
        rows=RowsConfig(**document.get("rows", {})),
        processor=document.get("processor", {}),
        trainer=trainer,
    )
    try:
        config.reward.resolve()
    except ConfigError as problem:
        raise ConfigError(f"{source}: {problem}") from None
    if config.lora is not None and config.adapter is not None:
        raise ConfigError(f"{source}: lora: leave it out, the adapter has its own")
    return config


def cuda_available() -> bool:
    """Whether PyTorch sees a GPU (of NVIDIA, or of AMD under the same name)."""
    import torch

    return bool(torch.cuda.is_available())


def _class(kind: Kind) -> Any:
    import trl

    return trl.SFTConfig if kind == "sft" else trl.GRPOConfig


def _checked_fields(
    kind: Kind, values: Mapping[str, Any], own: Iterable[str], source: str
) -> dict[str, Any]:
    """Values for TRL's fields, each known and of the right type."""
    hints = _fields(kind)
    checked = {}
    for key, value in values.items():
        if key not in hints:
            other: Kind = "grpo" if kind == "sft" else "sft"
            if key in _fields(other):
                raise ConfigError(f"{source}: {key}: only for tvr train {other}")
            near = difflib.get_close_matches(key, [*own, *hints], n=1)
            hint = f"did you mean {near[0]}?" if near else "it is neither ours nor one of TRL's"
            raise ConfigError(f"{source}: {key}: unknown key; {hint}")
        checked[key] = _fit(value, hints[key], f"{source}: {key}")
    return checked


def _fields(kind: Kind) -> dict[str, Any]:
    """The fields of TRL's configuration that a file may set, with their types."""
    cls = _class(kind)
    hints = typing.get_type_hints(cls)
    ours = {"output_dir", "disable_tqdm"}
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init} | {
        k: Any for k in ours
    }


def _fit(value: Any, hint: Any, where: str) -> Any:
    """The value if it has the type; `1e-5`, a text to YAML, becomes a number where one is due."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if union else (hint,)
    kinds = {typing.get_origin(o) or o for o in options}
    if Any in kinds or (value is None and type(None) in kinds):
        return value
    if isinstance(value, bool):
        fits = bool in kinds
    elif isinstance(value, int):
        fits = bool(kinds & {int, float})
    elif isinstance(value, float):
        fits = float in kinds
    elif isinstance(value, str):
        if float in kinds and str not in kinds:
            try:
                return float(value)
            except ValueError:
                fits = False
        else:
            fits = str in kinds or any(isinstance(k, type) and issubclass(k, Enum) for k in kinds)
    else:
        fits = type(value) in kinds
    if not fits:
        names = sorted(getattr(k, "__name__", str(k)) for k in kinds - {type(None)})
        names += ["null"] if type(None) in kinds else []
        raise ConfigError(f"{where}: {value!r} is not of type {' or '.join(names)}")
    return value

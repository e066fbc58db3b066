"""The configuration of a training run: what it is and how it is read.

It holds this project's keys and all of TRL's. Importing this module is cheap; TRL is imported when
a configuration is read.
"""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)

from star_tvr.extras import require
from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.settings import (
    Count,
    Flag,
    Integer,
    NonNegative,
    Number,
    Positive,
    Settings,
    refuse,
)
from star_tvr.schemas.config import merge, parse_override, read_yaml
from star_tvr.training.grpo_losses import check_loss
from star_tvr.training.rewards import Matching, Reward, resolve_reward


def _not_empty(value: object) -> object:
    if value == "":
        raise ValueError("is empty; name a folder")
    return value


def _scheme_and_name(value: str) -> str:
    scheme, _, name = value.partition("/")
    if not scheme or not name or "/" in name:
        raise ValueError(f"{value!r} is not SCHEME/NAME, such as cross-view/train")
    return value


def _former_style(value: object) -> object:
    """The name that `attributes` had in configurations of earlier versions, too."""
    return "attributes" if value == "looks" else value


Kind = Literal["sft", "grpo"]

STAGES: Mapping[str, Kind] = {"cold-start": "sft", "grpo": "grpo"}
"""The blocks of a configuration with two stages, in the order in which they are run."""

FRESH_FOLDER, FRESH_SPLIT = "fresh", "fresh/train"
"""Where fresh data are put in the folder of a run, and what their only split is called."""

TINY = ("tiny", "tiny-idefics3", "tiny-64", "small-64")
"""Models that are built on the spot, see `training.tiny_models`."""

Order = Literal["index", "left-to-right", "near-to-far"]
Folder = Annotated[Path, BeforeValidator(_not_empty)]

Processor = dict[
    Literal[
        "crop_size",
        "crop_to_patches",
        "do_center_crop",
        "do_image_splitting",
        "do_pad",
        "do_pan_and_scan",
        "do_resize",
        "max_image_size",
        "max_patches",
        "max_pixels",
        "min_patches",
        "min_pixels",
        "size",
    ],
    JsonValue,
]
"""Arguments of processors that say how pictures are cut and scaled; others, such as those that let
a model bring code, are refused."""

CompletionStyle = Annotated[
    Literal["answer", "trace", "compact", "attributes"], BeforeValidator(_former_style)
]

SYSTEM = (
    "You compare two pictures of one scene and name every change between them. "
    "Reason step by step inside <think> </think>, then give the changes inside "
    "<answer> </answer>, and write nothing else."
)


class Lora(Settings):
    """Adapters that are trained instead of the model's weights."""

    r: Count = 16
    """Rank."""
    alpha: Positive = 32.0
    """The update is scaled by alpha / r."""
    targets: str | tuple[str, ...] | None = None
    """Names of modules, or a regular expression over their full names; null is every linear layer
    of the language model, and of the vision tower where `vision_tower` is `trained`."""
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of the inputs of the adapters that is set to 0 while they learn."""
    rslora: Flag = False
    """Scale by alpha / sqrt(r) instead, so that large ranks learn as fast (arXiv 2312.03732)."""
    dora: Flag = False
    """Learn lengths and directions of the weights apart (DoRA, arXiv 2402.09353): nearer to
    training all weights at small ranks, and slower."""


def _named_functions(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema which further names there may be."""
    number = schema["additionalProperties"] | {
        "description": "For a function of your own: NAME is `file.py:function` or "
        "`module:function`, see docs/rewards.md."
    }
    schema |= {"additionalProperties": False, "patternProperties": {CUSTOM_REWARD: number}}


CUSTOM_REWARD = r"^.+:[A-Za-z_][A-Za-z0-9_]*$"
"""How a function of the user's own is named: by its file or module, and in that."""


class ExtraRewards(Settings):
    """What each further reward is multiplied by; 0 turns it off. See docs/rewards.md."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_named_functions)
    __pydantic_extra__: dict[str, NonNegative] = Field(init=False)

    reference: NonNegative = 0.0
    """For true statements about reference objects."""
    consistency: NonNegative = 0.0
    """For the same answer to several views of one scene."""
    grounding: NonNegative = 0.0
    """For boxes that fit."""

    @property
    def custom(self) -> dict[str, float]:
        """The functions of the user's own, in the order of the configuration."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _check(self) -> Self:
        taken = {f"{name}_reward" for name in ("format", "accuracy", *type(self).model_fields)}
        for name in self.custom:
            if not re.fullmatch(CUSTOM_REWARD, name):
                near = difflib.get_close_matches(name, type(self).model_fields, n=1)
                hint = f"did you mean {near[0]}?" if near else "name yours as file.py:function"
                refuse(name, f"unknown key; {hint}")
            function = name.rpartition(":")[2]
            if function in taken:
                refuse(name, f"another reward is logged as {function}, too; rename the function")
            taken.add(function)
        return self


class RewardConfig(Settings):
    """What GRPO maximises."""

    preset: str = "star"
    """Weights by name; docs/rewards.md lists the presets."""
    matching: Matching = "one-to-one"
    """`one-to-one`, or `independent`: the literal formula of the paper."""
    weights: dict[str, Number | Flag] = {}
    """Changes to the preset's weights."""
    extra: ExtraRewards = ExtraRewards()
    """Further rewards."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            self.resolve()
        except ConfigError as problem:
            key, _, why = str(problem).removeprefix("reward.").partition(": ")
            refuse(key, why)
        return self

    def resolve(self) -> Reward:
        """Everything that decides what a completion earns, as one value."""
        return resolve_reward(self.preset, self.matching, self.weights)


class PromptConfig(Settings):
    """How questions are worded."""

    style: Literal["full", "compact"] = "full"
    """`full` explains the task in sentences, for pretrained models; `compact` only lists the
    objects, for models that learn the task from nothing."""
    location: Literal["pixel", "cell", "none"] = "pixel"
    """How an object is pointed at in the first picture, so that two identical objects can be told
    apart: `pixel` (center, origin at the top left), `cell` (column and row of a coarse grid,
    independent of the picture's size), or `none`."""
    coordinates: Literal["model", "image"] = "model"
    """Of which picture pixels and boxes are, in questions and in reasoning: the one that the
    `model` sees, which its processor scales (Qwen2.5-VL, to multiples of 28), or the stored
    `image`. Of processors that do not tell a size, it is the stored one."""
    cells: Annotated[Integer, Field(ge=1, le=100)] = 8
    """Columns and rows of that grid."""
    order: Order = "index"
    """Order of the list of objects: by `index`, or as the first picture's camera sees their
    centers. An object keeps its index, which answers name it by."""
    reasoning: Literal["free", "steps"] = "free"
    """`free` leaves it to the model; `steps` also asks, in the `full` style, for reference objects,
    relations and a map in the notation that the reward for references reads."""
    boxes: Flag = False
    """With `steps`, also ask for boxes."""
    system: Annotated[str, Field(min_length=1)] = SYSTEM
    """System message of the `full` style."""

    @property
    def names_pixels(self) -> bool:
        """Whether questions or the reasoning they ask for hold coordinates in pixels."""
        return self.location == "pixel" or (self.reasoning == "steps" and self.boxes)


class TraceConfig(Settings):
    """What supervised fine-tuning teaches."""

    style: CompletionStyle = "answer"
    """`answer` is the answer alone, with empty reasoning (the paper's STAR-SFT); `trace` reasons in
    sentences, for pretrained models; `compact` says the same in as few words as possible, for tiny
    ones; `attributes` only names, of every object in the second picture, the attributes that can
    change, as they are there."""
    references: Annotated[Integer, Field(ge=0)] = 2
    """Most reference objects of a sample."""
    relations: Annotated[Integer, Field(ge=0)] = 3
    """Most relation triplets of a picture."""
    objects: Annotated[Integer, Field(ge=1, le=26)] = 10
    """Most objects of a picture that are named; those that change always are."""
    boxes: Flag = False
    """Whether objects are named with their boxes."""


class RowsConfig(Settings):
    """Which questions are asked, and when."""

    views: Literal["split", "same", "cross", "all"] = "split"
    """`split` takes the split's own pairs; `all` every pair of an initial and a final camera that
    the samples of the split have; `same` those of all that show one view twice; `cross` the
    others. Fresh data have no split: there `split` is as `all`."""
    order: Literal["random", "easy-first", "stored"] = "random"
    """`random`, anew in every epoch; `easy-first`, by difficulty, in random order among equals;
    `stored`, as in the split."""
    shuffle_objects: Flag = False
    """Number the objects of every sample anew in every epoch, so that an index says nothing about
    an object. Question, truth and reasoning agree on the numbers."""
    mirror: Flag = False
    """Show half of the samples of every epoch as in a mirror."""
    reverse: Flag = False
    """Ask about half of the samples of every epoch with time reversed."""
    streaming: Flag = False
    """Read an export from its beginning to its end in every epoch. A random order then draws among
    the next 200 rows, and the files in random order."""


class ValidationConfig(Settings):
    """What is asked while training, every `eval_steps` steps, greedily."""

    dataset: Folder | None = None
    """Folder of a data set, or of its export in parquet; null is the run's own."""
    split: Annotated[str, AfterValidator(_scheme_and_name)]
    """Such as `cross-view/val`."""
    limit: Count | None = None
    """Ask so many of its questions only, the same ones every time; null is all."""
    max_new_tokens: Count | None = None
    """Longest answer; null is `max_completion_length`, and 512 in supervised fine-tuning."""


class FreshConfig(Settings):
    """Data that are rendered while they are trained on: every question is new."""

    config: str = "star"
    """Preset or file of the data's configuration."""
    set: tuple[str, ...] = ()
    """Changes to it, `key=value`."""
    seed: Annotated[Integer, Field(ge=0)]
    """Seed of the data."""
    executor: Literal["local", "ray", "none"] = "local"
    """Who renders: processes here, a Ray cluster, or, with `none`, somebody who has started
    `tvr render FOLDER --ahead N` on the same folder."""
    workers: Count | None = None
    """Blender processes or actors; null is as many as there is room for."""
    address: str | None = None
    """Of a running Ray cluster."""
    device: Literal["auto", "cpu", "optix", "cuda", "hip", "oneapi", "metal"] = "cpu"
    """What Cycles renders on."""
    ahead: Count = 512
    """Samples that are there, at most, beyond those that are used up."""
    keep: Literal[0, "all"] = 0
    """`0` deletes samples that are used up; `all` keeps them, as an ordinary data set."""
    schedule: Literal["uniform", "aim", "levels", "easy-first"] = "uniform"
    """Which scenes: `uniform`, all alike; `aim`, more of those that the policy answers right now
    and then; `levels`, by number of changes and objects, the next one once the highest is mastered;
    `easy-first`, all levels one after the other."""
    every: Count = 10
    """Steps after which `aim` and `levels` decide anew."""
    pairs: Count = 1
    """Questions about each sample, from different cameras, one after the other."""
    patience: Positive = 60.0
    """Seconds after which a renderer that shows no sign of life is given up."""
    held_out: tuple[Folder, ...] = ()
    """Data sets that will test what is trained; one that shares scenes is refused."""


def _stored_or_fresh(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema that fresh data take the place of stored ones."""
    stored = ["dataset", "split"]
    schema["required"] = [key for key in schema["required"] if key not in stored]
    schema["anyOf"] = [{"required": stored}, {"required": ["fresh"]}]


class TrainSettings(Settings):
    """The keys of a configuration of training that are this project's own."""

    model_config = ConfigDict(json_schema_extra=_stored_or_fresh)

    model: Annotated[str, Field(min_length=1)]
    """A folder, a name on the hub, or a model that is built on the spot: tiny, tiny-idefics3,
    tiny-64, small-64."""
    adapter: str | None = None
    """Folder of a LoRA adapter of the model, to go on training."""
    allow_download: Flag = False
    """Whether the hub may be asked for the model."""
    dataset: Folder
    """Folder of the data set, or of its export in parquet; with `fresh` where the data are put,
    by default `output_dir`/fresh."""
    split: Annotated[str, AfterValidator(_scheme_and_name)]
    """Such as `cross-view/train`; left out with `fresh`."""
    fresh: FreshConfig | None = None
    """Data that are rendered meanwhile, in place of those of a `split`; null for none."""
    output_dir: Folder
    """Folder of the run."""
    imports: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Python files or modules of yours that are run first: they register classes of models that
    transformers does not know, see docs/training.md."""
    lora: Lora | None = None
    """Adapters to be trained; null trains all weights, or `adapter`."""
    vision_tower: Literal["frozen", "trained"] | None = None
    """Whether the vision tower and its projection into the language model are trained, too; null is
    `frozen` with adapters and `trained` with all weights."""
    quantization: Literal["4bit", "8bit"] | None = None
    """Hold the language model's weights below the adapters in 4 bits (NF4: QLoRA, arXiv 2305.14314)
    or 8; needs bitsandbytes."""
    reward: RewardConfig = RewardConfig()
    """What GRPO maximises."""
    prompt: PromptConfig = PromptConfig()
    """How questions are worded."""
    completion: TraceConfig = TraceConfig()
    """What supervised fine-tuning teaches."""
    rows: RowsConfig = RowsConfig()
    """Which questions are asked, and when."""
    processor: Processor = {}
    """Arguments of the model's processor that say how pictures are scaled, such as `max_pixels`."""
    validation: ValidationConfig | None = None
    """What is asked while training; null asks nothing."""

    @model_validator(mode="before")
    @classmethod
    def _place_of_fresh_data(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("fresh") is None:
            return values
        if values.get("split", FRESH_SPLIT) != FRESH_SPLIT:
            refuse("split", "leave it out: fresh data have none, rows.views says what is asked")
        folder = f"{values.get('output_dir', '')}/{FRESH_FOLDER}"
        return {"dataset": folder, **values, "split": FRESH_SPLIT}


class ModelInput(Settings):
    """How a model that was trained here is to be asked: as it was in its training."""

    prompt: PromptConfig = PromptConfig()
    processor: Processor = {}
    max_completion_length: Count | None = None
    """Of reinforcement learning; supervised fine-tuning has none."""


class TrainConfig(TrainSettings):
    """A training run, resolved."""

    kind: Kind
    """Which of the two commands."""
    source: str
    """The file it came from, for messages."""
    trainer: dict[str, Any]
    """Fields of TRL's configuration: this project's defaults, then the file's values."""

    @property
    def seed(self) -> int:
        """The seed of weights, data order and sampling."""
        return int(self.trainer["seed"])

    def to_json(self) -> dict[str, Any]:
        """The form stored in the run's folder, which can be used as a configuration again."""
        document = super().to_json()
        for key in ("kind", "source", "trainer", "completion" if self.kind == "grpo" else "reward"):
            del document[key]
        if self.fresh is not None:
            del document["split"]
            if self.dataset == self.output_dir / FRESH_FOLDER:
                del document["dataset"]  # wherever the run is
        return document | self.trainer


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


def validation_defaults(kind: Kind, save_steps: Any) -> dict[str, Any]:
    """The trainer's fields that go with `validation`. A configuration overrides them.

    Args:
        kind: of training.
        save_steps: of the run. Every checkpoint is validated, so that the best one is there.
    """
    values = {
        "eval_strategy": "steps",
        "eval_steps": save_steps,
        "metric_for_best_model": "tacc",
        "greater_is_better": True,
    }
    # One greedy answer to each question; TRL checks the batch against this number.
    return values if kind == "sft" else values | {"num_generations_eval": 1}


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
    if len(stages) == 2 and _same_stream(*stages):
        raise ConfigError(
            f"{source}: fresh.seed: both stages would ask about the same scenes; give each a seed "
            "of its own, in its block"
        )
    if not stages:
        raise ConfigError(f"{source}: cold-start: there is no such block to run by tvr train sft")
    return stages


def _same_stream(first: TrainConfig, second: TrainConfig) -> bool:
    """Whether two stages render the same scenes."""
    keys = {"config", "set", "seed"}
    one, other = (stage.fresh and stage.fresh.model_dump(include=keys) for stage in (first, second))
    return one is not None and one == other


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
    own = TrainSettings.model_fields.keys()
    ours = {k: v for k, v in document.items() if k in own}
    theirs = {k: v for k, v in document.items() if k not in own}
    other: Kind = "grpo" if kind == "sft" else "sft"
    for key, belongs in (("reward", "grpo"), ("completion", "sft")):
        if key in document and belongs == other:
            raise ConfigError(f"{source}: {key}: only for tvr train {other}")
    TrainSettings.parse(ours, source)  # before TRL is imported, which takes seconds
    cpu = theirs.get("use_cpu")
    trainer = defaults(kind, cpu if isinstance(cpu, bool) else not cuda_available())
    given = _checked_fields(kind, theirs, own, source)
    if ours.get("validation") is not None:
        trainer |= validation_defaults(kind, given.get("save_steps", _class(kind).save_steps))
    trainer |= given
    if trainer["remove_unused_columns"]:
        raise ConfigError(f"{source}: remove_unused_columns: must be false, or the truth is lost")
    if trainer.get("trust_remote_code") or "trust_remote_code" in (
        trainer.get("model_init_kwargs") or {}
    ):
        raise ConfigError(
            f"{source}: trust_remote_code: leave it out; code beside a model is never run"
        )
    if trainer["shuffle_dataset"] or trainer["train_sampling_strategy"] != "sequential":
        raise ConfigError(f"{source}: shuffle_dataset: leave it out; rows.order says the order")
    config = TrainConfig.parse({**ours, "kind": kind, "source": source, "trainer": trainer}, source)
    try:
        _check_trained(config)
        if kind == "grpo":
            check_loss(trainer, 2 + sum(w > 0 for w in config.reward.extra.to_json().values()))
    except ConfigError as problem:
        raise ConfigError(f"{source}: {problem}") from None
    return config


def _check_trained(config: TrainConfig) -> None:
    """Refuse keys that say two things about what is trained. Raises ConfigError."""
    if config.lora is not None and config.adapter is not None:
        raise ConfigError("lora: leave it out, the adapter has its own")
    if config.vision_tower is not None and config.adapter is not None:
        raise ConfigError("vision_tower: leave it out, the adapter says which layers it adapts")
    if config.vision_tower is not None and config.lora is not None and config.lora.targets:
        raise ConfigError("vision_tower: leave it out, lora.targets says which layers are adapted")
    if "quantization_config" in (config.trainer.get("model_init_kwargs") or {}):
        raise ConfigError("model_init_kwargs.quantization_config: write quantization: 4bit instead")
    if config.quantization is not None:
        if config.lora is None and config.adapter is None:
            raise ConfigError(
                "quantization: weights of a few bits cannot be trained; add lora, for adapters on "
                "top of them"
            )
        require("quantization", "bitsandbytes")


def cuda_available() -> bool:
    """Whether PyTorch sees a GPU (of NVIDIA, or of AMD under the same name)."""
    import torch

    return bool(torch.cuda.is_available())


def count_gpus() -> int:
    """How many GPUs PyTorch sees."""
    import torch

    return torch.cuda.device_count()


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

"""The configuration of a training run: this project's keys and all of TRL's, checked before work.

Importing this module is cheap; TRL is imported when a configuration is read.
"""

import argparse
import dataclasses
import difflib
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from scenes.errors import ConfigError, TvrError
from schemas.checks import check
from schemas.config import merge, parse_override, read_yaml
from schemas.dataset import Dataset
from training.models import TINY, Lora, check_model, quiet_libraries
from training.prompts import PromptConfig
from training.rewards import Matching, Weights, resolve_weights

if TYPE_CHECKING:
    from trl import GRPOConfig, SFTConfig

Kind = Literal["sft", "grpo"]


@dataclass(frozen=True)
class Reward:
    """The `reward` block: a preset of `training.rewards`, changes to it, and the matching."""

    preset: str = "star"
    matching: Matching = "one-to-one"
    weights: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self) -> Weights:
        """The weights with the changes on top. Raises ConfigError."""
        return resolve_weights(self.preset, self.weights)


@dataclass(frozen=True)
class TrainConfig:
    """A training run, resolved.

    Attributes:
        kind: `sft` or `grpo`; the command decides it.
        source: the file it came from, for messages.
        model: a folder, a hub name, or one of `training.models.TINY`.
        adapter: a stored LoRA adapter of the model to go on training, or None.
        allow_download: whether the hub may be asked for the model.
        dataset: the data set's folder.
        split: such as `cross-view/train`.
        output_dir: the run's folder.
        lora: the adapters to add; None trains all weights (or `adapter`).
        reward: what GRPO maximises.
        prompt: the wording of the questions.
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
            "processor": dict(self.processor),
        }
        if self.kind == "grpo":
            data["reward"] = {**dataclasses.asdict(self.reward)}
        return data | dict(self.trainer)


def _lora_to_json(lora: Lora) -> dict[str, Any]:
    targets = list(lora.targets) if isinstance(lora.targets, tuple) else lora.targets
    return {**dataclasses.asdict(lora), "targets": targets}


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
        # A lost model is worse than a NaN in the log: see training.runs.
        "logging_nan_inf_filter": False,
        "save_total_limit": 3,
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


def load_config(kind: Kind, path: str | Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a YAML file with `key=value` overrides on top. Paths are relative to where one is.

    Raises:
        ConfigError: unknown key, wrong type, a missing file, or TRL refuses a combination.
    """
    document = read_yaml(Path(path))
    for override in overrides:
        document = merge(document, parse_override(override))
    return resolve(kind, document, str(path))


def resolve(kind: Kind, document: Mapping[str, Any], source: str) -> TrainConfig:
    """A parsed document as a configuration. See `load_config`."""
    check(document, "train", source, ConfigError)
    own = {f.name for f in dataclasses.fields(TrainConfig)} - {"kind", "source", "trainer"}
    theirs = {k: v for k, v in document.items() if k not in own}
    cpu = theirs.get("use_cpu")
    trainer = defaults(kind, cpu if isinstance(cpu, bool) else not cuda_available())
    trainer |= _checked_fields(kind, theirs, own, source)
    if trainer["remove_unused_columns"]:
        raise ConfigError(f"{source}: remove_unused_columns: must be false, or the truth is lost")
    if kind == "sft" and "reward" in document:
        raise ConfigError(f"{source}: reward: only for tvr train grpo")
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
        reward=Reward(**document.get("reward", {})),
        prompt=PromptConfig(**document.get("prompt", {})),
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


def check_config(config: TrainConfig) -> Dataset:
    """Everything that can be refused before weights are loaded. Returns the open data set.

    Raises:
        ConfigError: no such data set, split or model, or a device or batch that cannot be.
        DataError: a file of the data set is damaged.
    """
    source = config.source
    _check_device(config)
    if config.kind == "grpo":
        _check_batch(config)
    if not (config.dataset / "dataset.json").is_file():
        raise ConfigError(f"{source}: dataset: {config.dataset} is not a data set folder")
    dataset = Dataset.open(config.dataset)
    if config.split not in dataset.split_names():
        known = ", ".join(dataset.split_names()) or "none yet, run tvr split"
        raise ConfigError(f"{source}: split: there is no {config.split} (known: {known})")
    if not dataset.split(config.split):
        raise ConfigError(f"{source}: split: {config.split} is empty")
    try:
        if config.model not in TINY:
            check_model(config.model, config.allow_download)
        if config.adapter is not None and not Path(config.adapter, "adapter_config.json").is_file():
            raise ConfigError(f"adapter: {config.adapter} is not an adapter folder")
    except ConfigError as problem:
        raise ConfigError(f"{source}: {problem}") from None
    return dataset


def run_from_command_line(
    run: Callable[[str, list[str]], Path], program: str, arguments: Sequence[str] | None
) -> int:
    """`python -m PROGRAM CONFIG [--set key=value]…`, for launchers such as accelerate.

    Returns:
        The exit status; an error is one line.
    """
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("config", help="a training configuration (YAML)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    try:
        print(run(given.config, given.set))
    except TvrError as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return problem.exit_status
    return 0


def trainer_arguments(config: TrainConfig) -> "SFTConfig | GRPOConfig":
    """TRL's configuration object.

    Raises:
        ConfigError: TRL refuses a value or a combination.
    """
    values = {k: v for k, v in config.trainer.items() if k != "model_init_kwargs"}
    try:
        quiet_libraries()
        arguments = _class(config.kind)(
            output_dir=str(config.output_dir), disable_tqdm=True, **values
        )
    except (ValueError, TypeError, ImportError) as problem:
        raise ConfigError(f"{config.source}: {' '.join(str(problem).split())}") from None
    return cast("SFTConfig | GRPOConfig", arguments)


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


def _check_device(config: TrainConfig) -> None:
    wants = [k for k in ("fp16", "use_vllm", "tf32") if config.trainer.get(k)]
    if not config.trainer["use_cpu"] and not cuda_available():
        raise ConfigError(
            f"{config.source}: use_cpu: false asks for a GPU, but PyTorch sees none here; "
            "leave it out to run on the CPU"
        )
    if wants and config.trainer["use_cpu"]:
        raise ConfigError(f"{config.source}: {wants[0]}: needs a GPU; set it to false on the CPU")


def _check_batch(config: TrainConfig) -> None:
    """GRPO compares the completions of one prompt, so a batch must hold whole groups."""
    get = config.trainer.get
    group: int = config.trainer["num_generations"]
    size = get("per_device_train_batch_size", 8)
    steps = get("steps_per_generation") or get("gradient_accumulation_steps", 1)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    whole = get("generation_batch_size") or size * steps * processes
    if group < 2:
        raise ConfigError(f"{config.source}: num_generations: {group}, but a group needs two")
    if whole % group:
        raise ConfigError(
            f"{config.source}: num_generations: {group} does not divide the batch of {whole} = "
            f"{size} (per_device_train_batch_size) x {steps} (gradient_accumulation_steps) x "
            f"{processes} (processes); set gradient_accumulation_steps to a multiple of "
            f"{_smallest_factor(size * processes, group)}"
        )


def _smallest_factor(batch: int, group: int) -> int:
    """The smallest n for which batch * n is a multiple of group."""
    return next(n for n in range(1, group + 1) if batch * n % group == 0)

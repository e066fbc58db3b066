"""The configuration of a training run: this project's keys and all of TRL's, checked before work.

Importing this module is cheap; TRL is imported when a configuration is read.
"""

import argparse
import dataclasses
import difflib
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from star_tvr.scenes.errors import ConfigError, TvrError
from star_tvr.schemas.checks import check
from star_tvr.schemas.config import merge, parse_override, read_yaml
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Pair
from star_tvr.training.augment import check_directions
from star_tvr.training.errors import TrainingError
from star_tvr.training.exported import Exported, is_dataset, open_dataset
from star_tvr.training.models import Lora, check_model, load_processor, quiet_libraries
from star_tvr.training.prompts import PromptConfig
from star_tvr.training.rewards import Matching, Weights, resolve_weights
from star_tvr.training.rows import RowReader, RowsConfig, choose_pairs
from star_tvr.training.scene_rewards import Extra
from star_tvr.training.tiny_models import TINY
from star_tvr.training.traces import TraceConfig

if TYPE_CHECKING:
    from trl import GRPOConfig, SFTConfig

Kind = Literal["sft", "grpo"]

STAGES: Mapping[str, Kind] = {"cold-start": "sft", "grpo": "grpo"}
"""The blocks of a configuration with two stages, in the order in which they are run."""


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
        model: a folder, a hub name, or one of `training.models.TINY`.
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
        # `training.rows` plans the order, so that it can be from easy to hard, and is resumed.
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


def load_config(kind: Kind, path: str | Path, overrides: Iterable[str] = ()) -> TrainConfig:
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
        ConfigError: as `load_config`.
    """
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
    base = str(first.output_dir / "base") if first.model in TINY else first.model
    return {"model": base, "adapter": str(first.output_dir), "lora": None}


def _read(path: str | Path, overrides: Iterable[str]) -> dict[str, Any]:
    document = read_yaml(Path(path))
    for override in overrides:
        document = merge(document, parse_override(override))
    return document


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


def check_config(config: TrainConfig, model: bool = True) -> Dataset:
    """Everything that can be refused before weights are loaded. Returns the open data set.

    Args:
        config: of the run.
        model: whether the model is there already; an earlier stage may have to make it first.

    Raises:
        ConfigError: no such data set, split or model, or a device or batch that cannot be.
        DataError: a file of the data set is damaged.
    """
    source = config.source
    _check_device(config)
    if config.kind == "grpo":
        _check_batch(config)
    if not is_dataset(config.dataset):
        raise ConfigError(
            f"{source}: dataset: {config.dataset} is not a data set folder, nor a parquet export"
        )
    dataset = open_dataset(config.dataset, config.split)
    if config.split not in dataset.split_names():
        known = ", ".join(dataset.split_names()) or "none yet, run tvr split"
        raise ConfigError(f"{source}: split: there is no {config.split} (known: {known})")
    try:
        pairs = choose_pairs(dataset, config.split, config.rows.views)
        if "position" in dataset.config["transformations"]["attributes"]:
            check_directions(dataset.world, config.rows.mirror, config.rows.reverse)
        _check_consistency(config, pairs)
        _check_streaming(config, dataset)
        _check_pixels(config, dataset)
        if model:
            _check_model(config)
    except (ConfigError, TrainingError) as problem:
        raise ConfigError(f"{source}: {problem}") from None
    return dataset


def _check_model(config: TrainConfig) -> None:
    if config.model not in TINY:
        check_model(config.model, config.allow_download)
        load_processor(config.model, config.processor, config.allow_download)
    if config.adapter is not None and not Path(config.adapter, "adapter_config.json").is_file():
        raise ConfigError(f"adapter: {config.adapter} is not an adapter folder")


def _check_pixels(config: TrainConfig, dataset: Dataset) -> None:
    """Pictures over the cap would be shrunk unnoticed, and the pixels named in prompts be wrong."""
    cap = config.processor.get("max_pixels")
    image = dataset.config["image"]
    pixels = image["width"] * image["height"]
    if isinstance(cap, int) and pixels > cap:
        raise ConfigError(
            f"processor.max_pixels: the pictures of {config.dataset} have {image['width']} x "
            f"{image['height']} = {pixels} pixels, more than {cap}; raise it to {pixels} or render "
            "smaller ones"
        )


def _check_streaming(config: TrainConfig, dataset: Dataset) -> None:
    """A stream has no end that the trainer could know, and no way back to a scene."""
    if not config.rows.streaming:
        return
    if not isinstance(dataset, Exported):
        raise ConfigError(
            f"rows.streaming: {config.dataset} is a folder, whose files are read when they are "
            "needed; leave it out, or make a stream with tvr export --format parquet"
        )
    if config.rows.order == "easy-first":
        raise ConfigError("rows.order: easy-first needs all rows at once; leave out rows.streaming")
    if config.trainer.get("max_steps", -1) < 1:
        raise ConfigError("max_steps: is needed with rows.streaming, since a stream has no length")
    extra = [name for name, weight in dataclasses.asdict(config.reward.extra).items() if weight]
    if extra:
        raise ConfigError(
            f"reward.extra.{extra[0]}: looks at the scenes again, which a stream has left behind; "
            "leave out rows.streaming"
        )


def _check_consistency(config: TrainConfig, pairs: Sequence[Pair]) -> None:
    """The consistency reward compares answers to several views of one scene in one batch."""
    if not config.reward.extra.consistency:
        return
    if len({p.sample for p in pairs}) == len(pairs):
        raise ConfigError(
            f"reward.extra.consistency: no scene of {config.split} is asked about from two views; "
            "set rows.views: all"
        )
    prompts = _batch(config)[0] // config.trainer["num_generations"]
    if prompts < 2:
        raise ConfigError(
            f"reward.extra.consistency: a batch holds {prompts} question, but two views need two; "
            "double gradient_accumulation_steps"
        )


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
        print(run(given.config, given.set), flush=True)
        _part()
    except TvrError as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return problem.exit_status
    return 0


def _part() -> None:
    """Leave the group of processes that trained together, where there is one.

    A process that just ends takes the threads of the group with it, and sometimes aborts.
    """
    import torch.distributed as group

    if group.is_available() and group.is_initialized():
        group.barrier()
        group.destroy_process_group()


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


def reader(config: TrainConfig, dataset: Dataset) -> RowReader:
    """What makes the rows of a run."""
    completion = config.completion if config.kind == "sft" else None
    return RowReader(dataset, config.prompt, completion, config.rows, config.seed)


def rows_of_run(args: Any, pairs: int) -> int:
    """How many questions a run asks.

    Args:
        args: TRL's configuration.
        pairs: how many there are in an epoch.
    """
    if hasattr(args, "num_generations"):  # GRPO: a batch of questions serves several steps
        batch = args.generation_batch_size // args.num_generations
        steps = args.steps_per_generation * args.num_iterations / args.gradient_accumulation_steps
    else:
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        steps = 1
    if args.max_steps > 0:
        return math.ceil(args.max_steps / steps) * batch
    wanted = math.ceil(args.num_train_epochs * pairs)
    return math.ceil(wanted / batch) * batch if hasattr(args, "num_generations") else wanted


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
    group: int = config.trainer["num_generations"]
    whole, size, steps, processes = _batch(config)
    if group < 2:
        raise ConfigError(f"{config.source}: num_generations: {group}, but a group needs two")
    if whole % group:
        raise ConfigError(
            f"{config.source}: num_generations: {group} does not divide the batch of {whole} = "
            f"{size} (per_device_train_batch_size) x {steps} (gradient_accumulation_steps) x "
            f"{processes} (processes); set gradient_accumulation_steps to a multiple of "
            f"{_smallest_factor(size * processes, group)}"
        )


def _batch(config: TrainConfig) -> tuple[int, int, int, int]:
    """Completions that GRPO makes at once; for each device and pass; passes; processes."""
    get = config.trainer.get
    size = get("per_device_train_batch_size", 8)
    steps = get("steps_per_generation") or get("gradient_accumulation_steps", 1)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return get("generation_batch_size") or size * steps * processes, size, steps, processes


def _smallest_factor(batch: int, group: int) -> int:
    """The smallest n for which batch * n is a multiple of group."""
    return next(n for n in range(1, group + 1) if batch * n % group == 0)

"""The folder of a training run: what SFT and GRPO share around TRL's trainers.

config.yaml      the resolved configuration, usable as a configuration again
run.json         how far the run got, and the versions of the libraries
log.jsonl        one line for each logged step
checkpoint-N/    everything needed to go on from step N
base/            the model the run began with, if it was built on the spot
model or adapter files and the processor, once the run is done
"""

import dataclasses
import errno
import json
import math
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError
from transformers import PrinterCallback, ProcessorMixin, Trainer, TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.world import World
from star_tvr.schemas.checks import read_json, read_text
from star_tvr.schemas.config import read_yaml
from star_tvr.schemas.dataset import Dataset, dumps, dumps_line, write_whole
from star_tvr.training.config import (
    STAGES,
    TrainConfig,
    reader,
    resolve,
    rows_of_run,
    trainer_arguments,
)
from star_tvr.training.errors import TrainingError
from star_tvr.training.models import (
    load_adapter,
    load_model,
    load_processor,
    lora_config,
    quiet_libraries,
)
from star_tvr.training.rows import build_rows, choose_pairs, difficulties, stream_rows
from star_tvr.training.tiny_models import TINY, build_tiny

LIBRARIES = ("accelerate", "datasets", "peft", "tokenizers", "torch", "transformers", "trl")

GROWING = {
    *("max_steps", "num_train_epochs", "save_steps", "save_total_limit", "save_strategy"),
    *("logging_steps", "report_to", "allow_download", "output_dir", "log_completions"),
}
"""Keys that may change between the parts of one run."""


@dataclasses.dataclass(frozen=True)
class Progressed:
    """What a run's folder holds.

    Attributes:
        checkpoint: the newest complete checkpoint, or None.
        done: whether the run with this configuration is finished.
    """

    checkpoint: Path | None
    done: bool


def open_run(config: TrainConfig) -> Progressed:
    """Look at a run's folder, or begin it. Checkpoints that were cut off are removed.

    Raises:
        ConfigError: the folder belongs to a run with another configuration.
    """
    folder = config.output_dir
    stored = folder / "config.yaml"
    new = {"kind": config.kind, **config.to_json()}
    done = False
    if stored.is_file():
        old = _stored_config(stored)
        for key in ["kind", *sorted(old.keys() | new.keys())]:
            if old.get(key) != new.get(key) and key not in GROWING:
                raise ConfigError(
                    f"{config.source}: output_dir: {folder} holds a run with {key} "
                    f"{old.get(key)!r}, not {new.get(key)!r}; choose another folder"
                )
        same_length = all(old.get(k) == new.get(k) for k in ("max_steps", "num_train_epochs"))
        done = same_length and _status(folder) == "done"
    elif folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(
            f"{config.source}: output_dir: {folder} is not empty and holds no run; "
            "choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not done:
        write_whole(stored, yaml.safe_dump(new, sort_keys=False, allow_unicode=True))
        write_run(folder, config, "started", 0)
    return Progressed(last_checkpoint(folder), done)


def _stored_config(path: Path) -> dict[str, Any]:
    """The configuration of a begun run; keys that later versions added have their defaults."""
    document = read_yaml(path)
    kind = document.pop("kind", None)
    if kind not in STAGES.values():
        raise ConfigError(f"{path}: kind: {kind!r} is not sft or grpo; choose another output_dir")
    return {"kind": kind, **resolve(kind, document, str(path)).to_json()}


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint. Newer ones, cut off while being written, are removed.

    The trainer writes `trainer_state.json` last, so a checkpoint is whole if that can be read.
    """
    found = [p for p in folder.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
        else:
            return path
    return None


def write_run(folder: Path, config: TrainConfig, status: str, step: int) -> None:
    """Write `run.json`."""
    document = {
        "kind": config.kind,
        "status": status,
        "step": step,
        "model": model_folder(config),
        "adapter": config.adapter,
        "versions": {"star-tvr": _own_version(), **{name: version(name) for name in LIBRARIES}},
        "python": sys.version.split()[0],
    }
    write_whole(folder / "run.json", dumps(document))


def _status(folder: Path) -> str | None:
    path = folder / "run.json"
    return read_json(path).get("status") if path.is_file() else None


def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version("star-tvr")
    except PackageNotFoundError:
        return "unknown"


def model_folder(config: TrainConfig) -> str:
    """Where the weights come from: for a tiny model, the folder it is built in."""
    return str(config.output_dir / "base") if config.model in TINY else config.model


def rows(config: TrainConfig, dataset: Dataset, args: TrainingArguments) -> Any:
    """All rows of a run, in order: what the trainer goes through once.

    It is a `datasets.Dataset`, or an `IterableDataset` with `rows.streaming`. `args` is told so:
    its epochs become one, however many are in the rows.

    Raises:
        ConfigError, DataError: the split lacks what the configuration asks for.
    """
    pairs = choose_pairs(dataset, config.split, config.rows.views)
    count = rows_of_run(args, len(pairs))
    args.num_train_epochs = 1
    if config.rows.streaming:
        return stream_rows(reader(config, dataset), count)
    easy_first = config.rows.order == "easy-first"
    return build_rows(
        reader(config, dataset),
        pairs,
        config.rows.order,
        count,
        difficulties(dataset, config.split, pairs) if easy_first else (),
        together=config.reward.extra.consistency > 0,
    )


def load(
    config: TrainConfig, world: World, args: TrainingArguments, checkpoint: Path | None = None
) -> tuple[Any, ProcessorMixin]:
    """The model (with `adapter` on it, if there is one) and its processor.

    Args:
        config: of the run.
        world: the vocabulary, for a tiny model.
        args: TRL's configuration.
        checkpoint: where a run of all weights goes on.

    Raises:
        TrainingError: something cannot be loaded.
    """
    quiet_libraries()
    folder = model_folder(config)
    with args.main_process_first(desc="building the model"):
        if config.model in TINY and not Path(folder).is_dir():
            draft = build_tiny(config.model, Path(f"{folder}.draft"), world, config.seed)
            draft.rename(folder)
    processor = load_processor(folder, config.processor, config.allow_download)
    frozen = config.lora is not None or config.adapter is not None
    options = {"dtype": "bfloat16" if args.bf16 and frozen else "float32"}
    options |= config.trainer.get("model_init_kwargs") or {}
    if checkpoint is not None and not frozen and any(checkpoint.glob("model*.safetensors")):
        # The trainer's own way back takes no notice of names that differ between a model and its
        # files, as those of Qwen2.5-VL do, and would go on from the first weights without a word
        # (https://github.com/huggingface/transformers/issues/43701).
        model = load_model(str(checkpoint), options, config.allow_download)
        model.config.name_or_path = folder  # where TRL finds the reference model
    else:
        model = load_model(folder, options, config.allow_download)
    if config.adapter is not None:
        model = load_adapter(model, config.adapter, trainable=True)
    return model, processor


def train(config: TrainConfig, dataset: Dataset, trainer_class: type[Trainer], **more: Any) -> Path:
    """Train as a configuration says, or go on where the same run stopped.

    Args:
        config: of the run, which `check_config` has accepted.
        dataset: what `check_config` returned.
        trainer_class: TRL's.
        more: arguments of the trainer that only this class has.

    Returns:
        The run's folder, with what was learned.

    Raises:
        ConfigError, DataError: the folder holds another run, or the split lacks what is asked for.
        TrainingError: the model cannot be loaded, the loss or a weight is no longer a number, or
            the disk is full.
    """
    args = trainer_arguments(config)
    with args.main_process_first(desc="opening the run"):
        found = open_run(config)
    if found.done:
        return config.output_dir
    table = rows(config, dataset, args)
    model, processor = load(config, dataset.world, args, found.checkpoint)
    trainer = trainer_class(
        model=model,
        args=args,
        train_dataset=table,
        processing_class=processor,
        peft_config=None if config.lora is None else lora_config(model, config.lora),
        **more,
    )
    trainer.remove_callback(PrinterCallback)
    # First of all, so that its figures reach TensorBoard and the like too.
    trainer.callback_handler.callbacks.insert(0, Speed())
    trainer.add_callback(Soundness())
    trainer.add_callback(LogFile(config.output_dir / "log.jsonl"))
    trainer.add_callback(ProgressLine(config.kind))
    checkpoint = found.checkpoint
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        trainer.save_model()
        if trainer.is_world_process_zero():
            write_run(config.output_dir, config, "done", trainer.state.global_step)
    except (OSError, RuntimeError, SafetensorError) as problem:
        if not disk_is_full(problem):
            raise
        good = last_checkpoint(config.output_dir) if trainer.is_world_process_zero() else None
        raise TrainingError(
            f"{config.output_dir}: the disk is full; free some space (or lower save_total_limit) "
            "and start again, training goes on from "
            f"{good.name if good else 'the beginning, as there is no checkpoint yet'}"
        ) from None
    return config.output_dir


def disk_is_full(problem: BaseException) -> bool:
    """Whether this error, or one that led to it, came from a full disk or an exhausted quota.

    safetensors and PyTorch's own file format wrap the system's error or only keep its text.
    """
    chain: BaseException | None = problem
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(text in str(chain) for text in DISK_FULL):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


DISK_FULL = ("No space left on device", "Disk quota exceeded", "inline_container.cc")
"""What messages say when a write failed; the last is PyTorch's writer of archives."""


class Speed(TrainerCallback):
    """Adds `tokens_per_second` to every logged step: of prompts and completions, all processes."""

    def __init__(self) -> None:
        self.last: tuple[float, float] | None = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Compare the trainer's count of tokens with the clock."""
        tokens = (logs or {}).get("num_tokens")
        if logs is None or tokens is None:
            return
        now = time.monotonic()
        if self.last is not None and now > self.last[0]:
            speed = (tokens - self.last[1]) / (now - self.last[0])
            logs["tokens_per_second"] = state.log_history[-1]["tokens_per_second"] = speed
        self.last = now, tokens


class Soundness(TrainerCallback):
    """Stops a run before it stores weights that are no numbers."""

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Look at the loss and at what was trained, whenever a checkpoint is due."""
        if not control.should_save:
            return
        control.should_log = True  # the loss is looked at in LogFile, and logs come before saves
        for name, weight in model.named_parameters():
            if weight.requires_grad and not weight.isfinite().all():
                raise TrainingError(_unsound(args, state, f"{name} is"))


def _unsound(args: TrainingArguments, state: TrainerState, what: str) -> str:
    good = last_checkpoint(Path(args.output_dir)) if state.is_world_process_zero else None
    sound = f"; {good.name} holds the last sound weights" if good else ""
    return (
        f"{args.output_dir}: {what} no longer a number at step {state.global_step}; lower "
        f"learning_rate and start again in another output_dir{sound}"
    )


class LogFile(TrainerCallback):
    """Keeps `log.jsonl`, and stops a run whose loss is no longer a number.

    After an interruption the file starts again from the checkpoint's own history, so that no step
    is in it twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start from the history in the checkpoint."""
        if state.is_world_process_zero:
            write_whole(self.path, "".join(dumps_line(line) for line in state.log_history))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Append the newest line."""
        line = state.log_history[-1]
        loss = line.get("loss")
        if isinstance(loss, float) and not math.isfinite(loss):
            raise TrainingError(_unsound(args, state, f"the loss is {loss},"))
        if state.is_world_process_zero:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(dumps_line(line))


class ProgressLine(TrainerCallback):
    """A progress bar on a terminal, a plain line for each logged step elsewhere."""

    SHOWN = {
        "loss": "loss",
        "reward": "reward",
        "rewards/accuracy_reward/mean": "accuracy",
        "rewards/format_reward/mean": "format",
        "completions/mean_length": "tokens",
    }

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: Progress | None = None
        self.began = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the bar."""
        self.began = time.monotonic()
        console = Console(stderr=True)
        if state.is_world_process_zero and console.is_terminal:
            self.bar = Progress(
                TextColumn(self.name),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=console,
            )
            self.bar.start()
            self.bar.add_task("", total=state.max_steps, completed=state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the newest figures."""
        line = state.log_history[-1]
        shown = [f"{name} {line[key]:.3g}" for key, name in self.SHOWN.items() if key in line]
        if not shown or not state.is_world_process_zero:
            return
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], description="  ".join(shown))
        else:
            seconds = time.monotonic() - self.began
            place = f"{self.name} step {state.global_step}/{state.max_steps}"
            print(f"{place}  {'  '.join(shown)}  {seconds:.0f} s", file=sys.stderr, flush=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.stop()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `log.jsonl`, each a mapping with `step` and what was logged then."""
    return [json.loads(line) for line in read_text(folder / "log.jsonl").splitlines()]

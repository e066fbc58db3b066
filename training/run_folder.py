"""The folder of a training run: begun, gone on with, finished.

config.yaml      the resolved configuration, usable as a configuration again
run.json         how far the run got, on which scenes, and the versions of the libraries
log.jsonl        one line for each logged step
checkpoint-N/    everything needed to go on from step N
base/            the model the run began with, if it was built on the spot
model or adapter files and the processor, once the run is done
"""

import json
import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import yaml

from star_tvr.scenes.errors import ConfigError, DataError, printable
from star_tvr.schemas.checks import read_json
from star_tvr.schemas.config import read_yaml
from star_tvr.schemas.dataset import Dataset, dumps
from star_tvr.schemas.files import open_file, read_bytes, write_whole
from star_tvr.schemas.folders import refuse_other, was_begun
from star_tvr.schemas.locks import lock_folder
from star_tvr.training.config import STAGES, ModelInput, TrainConfig, base_model, resolve
from star_tvr.training.seen_scenes import read_run, scenes_of_run
from star_tvr.training.user_code import load_module

if TYPE_CHECKING:
    from transformers import Trainer, TrainerState, TrainingArguments

LIBRARIES = ("accelerate", "datasets", "peft", "tokenizers", "torch", "transformers", "trl")

GROWING = {
    *("max_steps", "num_train_epochs", "save_steps", "save_total_limit", "save_strategy"),
    *("logging_steps", "report_to", "allow_download", "output_dir", "log_completions"),
    *("fresh.executor", "fresh.workers", "fresh.address", "fresh.device", "fresh.keep"),
    *("fresh.patience", "fresh.held_out"),
    *("eval_steps", "per_device_eval_batch_size"),
}
"""Keys that may change between the parts of one run."""


DIVIDED = {"per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation"}
"""Keys that may change with the number of processes, as long as a step has as many rows."""


@dataclass(frozen=True)
class ResumePoint:
    """Where a run goes on.

    Attributes:
        checkpoint: the newest complete checkpoint, or None.
        done: whether the run with this configuration is finished.
    """

    checkpoint: Path | None
    done: bool


@contextmanager
def lock_run(config: TrainConfig, args: "TrainingArguments") -> Iterator[None]:
    """Let no other run write to this one's folder; the main process holds the lock for all.

    Raises:
        ConfigError: another run does, which is named.
    """
    with lock_folder(config.output_dir) if args.process_index == 0 else nullcontext():
        yield


def open_run(config: TrainConfig, dataset: Dataset, processes: int = 1) -> ResumePoint:
    """Look at a run's folder, or begin it. Checkpoints that were cut off are removed.

    Args:
        config: of the run.
        dataset: that it learns from.
        processes: how many train together.

    Raises:
        ConfigError: the folder belongs to a run with another configuration, or its checkpoint
            is of a number of processes that cannot go on as this one.
    """
    folder, name = config.output_dir, f"{config.source}: output_dir"
    stored = folder / "config.yaml"
    new = {"kind": config.kind, **config.to_json()}
    done, code = False, dict[str, Sequence[str]]()
    if was_begun(folder, stored.name, name):
        old = _stored_config(stored)
        # The kind comes first: with another one nearly every key differs.
        refuse_other(folder, {"kind": old["kind"]}, {"kind": config.kind}, name=name)
        before = read_run(folder).processes or processes
        may_differ = GROWING if before == processes else GROWING | DIVIDED
        refuse_other(folder, old, new, may_differ, name)
        same_length = all(old.get(k) == new.get(k) for k in ("max_steps", "num_train_epochs"))
        done = same_length and read_run(folder).status == "done"
        checkpoint = None if done else last_checkpoint(folder)
        if checkpoint is not None and before != processes:
            _refuse_other_batch(checkpoint, old, new, before, processes, name)
        code.update(read_run(folder).code)
    folder.mkdir(parents=True, exist_ok=True)
    if not done:
        write_whole(stored, yaml.safe_dump(new, sort_keys=False, allow_unicode=True))
        used = _code_used(config, code)
        write_run(folder, config, dataset, "started", 0, processes, used)
    return ResumePoint(last_checkpoint(folder), done)


def _code_used(
    config: TrainConfig, before: Mapping[str, Sequence[str]]
) -> Mapping[str, Sequence[str]]:
    """The run's modules of the user's own, for `run.json`; what changed since is said.

    It is no reason to refuse: a run that stopped at a fault of a reward goes on once it is mended.
    """
    names = [("imports", name) for name in config.imports]
    for name, weight in config.reward.extra.custom.items():
        if weight > 0:
            names.append(("reward.extra", name.rpartition(":")[0]))
    used: dict[str, Sequence[str]] = {}
    for key, name in names:
        was, now = before.get(name, ()), load_module(key, name).sha256
        used[name] = was if was and was[-1] == now else (*was, now)
        if was and was[-1] != now:
            words = f"{config.source}: {key}: {name} has changed since the run was last begun"
            print(printable(f"{words}; it goes on with what the file says now"), file=sys.stderr)
    return used


def _refuse_other_batch(
    checkpoint: Path,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    before: int,
    processes: int,
    name: str,
) -> None:
    """Raise ConfigError unless a step has as many rows with another number of processes.

    The trainer goes on behind the steps that were done, and would skip or repeat questions.
    """
    had, has = _rows_at_once(old, before), _rows_at_once(new, processes)
    begun = f"{name}: {checkpoint} was trained by {before} processes, now there are {processes}"
    for former, now, what in zip(had, has, ("a step has", "answers are made for"), strict=True):
        if former != now:
            raise ConfigError(
                f"{begun}, so that {what} {now} rows instead of {former}; start {before}, or set "
                "gradient_accumulation_steps so that it is as many"
            )
    if any(checkpoint.glob("global_step*")):
        raise ConfigError(f"{begun}, which DeepSpeed cannot go on with; start {before}")
    if processes == 1 and any(checkpoint.glob("pytorch_model_fsdp*")):
        raise ConfigError(f"{begun}, but weights that FSDP stored need several; start {before}")


def _rows_at_once(config: Mapping[str, Any], processes: int) -> tuple[int, int]:
    """Rows that a step of all processes learns from, and that GRPO answers at once."""
    size = config.get("per_device_train_batch_size", 8) * processes
    steps = config.get("gradient_accumulation_steps", 1)
    answered = config.get("generation_batch_size")
    return size * steps, answered or size * (config.get("steps_per_generation") or steps)


def _stored_config(path: Path) -> dict[str, Any]:
    """The configuration of a begun run; keys that later versions added have their defaults."""
    document = read_yaml(path)
    kind = document.pop("kind", None)
    if kind not in STAGES.values():
        raise ConfigError(f"{path}: kind: {kind!r} is not sft or grpo; choose another output_dir")
    return {"kind": kind, **resolve(kind, as_begun(document), str(path)).to_json()}


def as_begun(document: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration, with what was meant before there was a key for it."""
    prompt, completion = document.get("prompt"), document.get("completion")
    if not isinstance(prompt, dict) or "coordinates" in prompt:
        return dict(document)
    boxes = prompt.get("boxes") or (isinstance(completion, dict) and completion.get("boxes"))
    if prompt.get("location", "pixel") != "pixel" and not boxes:
        return dict(document)  # there are no coordinates
    return {**document, "prompt": {**prompt, "coordinates": "image"}}


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint. Newer ones whose writing was cut off are removed.

    The trainer writes `trainer_state.json` last, so a checkpoint without it, or with its beginning
    alone, was cut off. One whose state is damaged otherwise is kept as `damaged-checkpoint-N`.

    Raises:
        ConfigError: a checkpoint cannot be read, which may be mended.
    """
    found = [
        p for p in folder.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdecimal()
    ]
    for path in sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")), reverse=True):
        state = path / "trainer_state.json"
        cure = f"mend that, or rename {path.name} to go on from an earlier one"
        try:
            content = read_bytes(state) if state.name in os.listdir(path) else b""
            if not content or (content[:1] == b"{" and content[-1:] not in b"}\n"):
                shutil.rmtree(path)
                continue
            json.loads(content)
        except (ValueError, RecursionError) as problem:
            aside = path.with_name(f"damaged-{path.name}")
            if aside.exists():
                raise ConfigError(f"{state}: is damaged ({problem}); remove {path.name}") from None
            path.rename(aside)
            words = f"{state}: is damaged ({problem}); kept as {aside.name}"
            print(printable(words), file=sys.stderr)
        except (OSError, DataError) as problem:
            raise ConfigError(
                f"{path}: the checkpoint cannot be read ({problem}); {cure}"
            ) from None
        else:
            _refuse_torn(path, cure)
            return path
    return None


def _refuse_torn(checkpoint: Path, cure: str) -> None:
    """Raise ConfigError for a file of a checkpoint that is damaged or cannot be read."""
    for path in sorted(checkpoint.glob("*")):
        if path.suffix in (".pt", ".pth", ".bin"):  # PyTorch's archives are zip files
            try:
                with open_file(path) as file:
                    whole = _is_whole_archive(file)
            except DataError as problem:
                raise ConfigError(f"{problem}; {cure}") from None
            if not whole:
                raise ConfigError(f"{path}: is damaged; {cure}")


def _is_whole_archive(file: BinaryIO) -> bool:
    """Whether every member of a zip file is there and has its checksum."""
    try:
        return zipfile.ZipFile(file).testzip() is None
    # What zipfile raises for places, sizes and methods that make no sense.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError):
        return False


def write_run(
    folder: Path,
    config: TrainConfig,
    dataset: Dataset,
    status: str,
    step: int,
    processes: int,
    code: Mapping[str, Sequence[str]],
    best: Mapping[str, Any] | None = None,
) -> None:
    """Write `run.json`. For `code` see `RunRecord`."""
    document = {
        "kind": config.kind,
        "status": status,
        "step": step,
        **({"best": best} if best else {}),
        "processes": processes,
        "model": base_model(config),
        "adapter": config.adapter,
        "trained_on": scenes_of_run(dataset, config.split, (base_model(config), config.adapter)),
        **({"code": code} if code else {}),
        "versions": {"star-tvr": _own_version(), **{name: version(name) for name in LIBRARIES}},
        "python": sys.version.split()[0],
    }
    write_whole(folder / "run.json", dumps(document))


def close_run(trainer: "Trainer", config: TrainConfig, dataset: Dataset) -> None:
    """Write down that a run is done."""
    if trainer.is_world_process_zero():
        step, processes = trainer.state.global_step, trainer.args.world_size
        best = best_checkpoint(trainer.args, trainer.state)
        code = read_run(config.output_dir).code
        write_run(config.output_dir, config, dataset, "done", step, processes, code, best)


def best_checkpoint(args: "TrainingArguments", state: "TrainerState") -> dict[str, Any] | None:
    """The best step by validation, by what, and its checkpoint; None before there is one."""
    if not state.best_global_step or args.metric_for_best_model is None:
        return None
    return {
        "step": state.best_global_step,
        "checkpoint": f"checkpoint-{state.best_global_step}",
        args.metric_for_best_model.removeprefix("eval_"): state.best_metric,
    }


def note_best(args: "TrainingArguments", state: "TrainerState") -> None:
    """Name the best checkpoint in the `run.json` of a run under way."""
    path = Path(args.output_dir, "run.json")
    if best := best_checkpoint(args, state):
        write_whole(path, dumps(read_json(path) | {"step": state.global_step, "best": best}))


def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version("star-tvr")
    except PackageNotFoundError:
        return "unknown"


def stored_input(folder: str | None) -> ModelInput | None:
    """How a model, adapter or checkpoint that was trained here is asked, by what lies beside it.

    The model that a run began with, `base`, is asked as the run asks.

    Raises:
        ConfigError: the configuration beside it cannot be read.
    """
    if folder is None:
        return None
    path = Path(folder)
    inside = path.name == "base" or path.name.startswith("checkpoint-")
    stored = (path.parent if inside else path) / "config.yaml"
    if not stored.exists():
        return None
    document = as_begun(read_yaml(stored))
    known = {key: document[key] for key in ModelInput.model_fields if key in document}
    return ModelInput.parse(known, str(stored))

"""An adapter merged into the weights that it was trained on: a model that opens anywhere."""

from pathlib import Path

import yaml

from star_tvr.scenes.errors import ConfigError
from star_tvr.schemas.dataset import dumps
from star_tvr.schemas.drafts import whole_folder
from star_tvr.schemas.files import write_whole
from star_tvr.training.models import (
    check_model,
    load_adapter,
    load_model,
    load_processor,
    quiet_libraries,
    reading,
)
from star_tvr.training.run_folder import stored_input
from star_tvr.training.seen_scenes import read_run


def merge(run: Path, out: Path, model: str | None = None, allow_download: bool = False) -> Path:
    """Add the adapter of a run to the weights of its base, and store that as a model.

    The weights keep the type that the base has them in, so what is added to weights in bfloat16 is
    rounded to that. The processor has the settings that it had in training, and what was asked how,
    and on which scenes, stays beside the model, as `tvr evaluate` reads it.

    Args:
        run: the folder of a finished run that trained an adapter, or a checkpoint in it.
        out: a folder that does not exist, or is empty; it appears whole or not at all.
        model: the base, if it is no longer where it was in training.
        allow_download: whether the hub may be asked for it.

    Returns:
        `out`.

    Raises:
        ConfigError: the run has no adapter, its base is not there, or `out` cannot be used.
        ModelError: files of the model or adapter are missing, damaged or do not fit.
        DataError: `out` cannot be written.
    """
    _check_run(run)
    asked = stored_input(str(run))
    folder = run.parent if run.name.startswith("checkpoint-") else run
    record = read_run(folder)
    if asked is None or not record.model:
        raise ConfigError(f"{folder}: is not the folder of a training run (config.yaml, run.json)")
    base = model or (str(folder / "base") if (folder / "base").is_dir() else record.model)
    with whole_folder(out) as draft:
        check_model(base, allow_download)
        quiet_libraries()
        processor = load_processor(base, asked.processor, allow_download)
        weights = load_model(base, {"dtype": "auto"}, allow_download)
        adapted = load_adapter(weights, str(run), trainable=False)
        with reading(f"adapter: {run}"):
            merged = adapted.merge_and_unload(safe_merge=True)
        merged.save_pretrained(draft)
        processor.save_pretrained(draft)
        beside = yaml.safe_dump(asked.to_json(), sort_keys=False, allow_unicode=True)
        write_whole(draft / "config.yaml", beside)
        made = {"kind": "merge", "model": base, "adapter": str(run)}
        write_whole(draft / "run.json", dumps({**made, "trained_on": record.trained_on}))
    return out


def _check_run(run: Path) -> None:
    """Raise ConfigError for a folder without an adapter, saying what it is instead."""
    if (run / "adapter_config.json").is_file():
        return
    if not run.is_dir():
        raise ConfigError(f"{run}: is not a folder")
    if any(run.glob("model*.safetensors")):
        raise ConfigError(
            f"{run}: all weights were trained, so it is a model already; use it as it is"
        )
    inside = sorted(p.parent.name for p in run.glob("*/adapter_config.json"))
    hint = f"; name {inside[-1]} in it" if inside else ""
    what = "is not finished" if (run / "run.json").is_file() else "is not the folder of a run"
    raise ConfigError(f"{run}: {what} (there is no adapter_config.json in it){hint}")

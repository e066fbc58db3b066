"""What is refused before weights are loaded: all that data, model, device and batch must fit."""

import math
import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec

from star_tvr.scenes.errors import ConfigError
from star_tvr.schemas.dataset import Dataset, expected_views, refuse_other_config
from star_tvr.schemas.records import Pair
from star_tvr.schemas.stream import pair_kinds
from star_tvr.training.augment import check_directions
from star_tvr.training.config import TINY, TrainConfig, count_gpus, cuda_available
from star_tvr.training.custom_rewards import custom_rewards
from star_tvr.training.errors import TrainingError
from star_tvr.training.fresh_dataset import FreshDataset
from star_tvr.training.models import adapter_fault, check_model, load_processor
from star_tvr.training.pairs import choose_pairs
from star_tvr.training.parquet_dataset import ParquetDataset, is_dataset, open_dataset
from star_tvr.training.seen_scenes import scenes_of, seen_scenes
from star_tvr.training.training_rows import batch_rows, count_rows
from star_tvr.training.trl_arguments import trainer_arguments
from star_tvr.training.user_code import load_module
from star_tvr.training.validation import check_validation

SAMPLE_BYTES = 20_000
"""Of a `sample.json`, about."""


def check_config(config: TrainConfig, model: bool = True, processes: int | None = None) -> Dataset:
    """Everything that can be refused before weights are loaded. Returns the open data set.

    The user's own modules, of `imports` and `reward.extra`, are loaded last but for the model.

    Args:
        config: of the run.
        model: whether the model is there already; an earlier stage may have to make it first.
        processes: how many there will be, on devices that are not here; None is how many there are.

    Raises:
        ConfigError: no such data set, split, module or model, or a device or batch that cannot be.
        DataError: a file of the data set is damaged.
    """
    source = config.source
    if processes is None:
        _check_device(config)
    if config.kind == "grpo":
        _check_batch(config, processes)
    if config.fresh is None and not is_dataset(config.dataset):
        raise ConfigError(
            f"{source}: dataset: {config.dataset} is not a data set folder, nor a parquet export"
        )
    dataset = _open(config)
    if config.split not in dataset.split_names():
        known = ", ".join(dataset.split_names()) or "none yet, run tvr split"
        raise ConfigError(f"{source}: split: there is no {config.split} (known: {known})")
    try:
        if isinstance(dataset, FreshDataset):
            _check_fresh(config, dataset)
        pairs = choose_pairs(dataset, config.split, config.rows.views)
        if "position" in dataset.config.transformations.attributes:
            check_directions(dataset.world, config.rows.mirror, config.rows.reverse)
        _check_consistency(config, pairs)
        _check_streaming(config, dataset)
        _check_pixels(config, dataset)
        check_validation(config)
        for name in config.imports:
            load_module("imports", name)
        custom_rewards(config.reward.extra)
        if model:
            _check_model(config)
    except (ConfigError, TrainingError) as problem:
        raise ConfigError(f"{source}: {problem}") from None
    return dataset


def _open(config: TrainConfig) -> Dataset:
    """The data set of a run, there or to be rendered."""
    fresh = config.fresh
    if fresh is None:
        return open_dataset(config.dataset, config.split)
    if config.trainer.get("max_steps", -1) < 1:
        raise ConfigError(
            f"{config.source}: max_steps: is needed with fresh data, which have no end"
        )
    rows = count_rows(trainer_arguments(config), 0)
    return FreshDataset.plan(config.dataset, fresh, config.rows.views, rows)


def _check_fresh(config: TrainConfig, dataset: FreshDataset) -> None:
    """Fresh data: enough of them at a time, room for them, and none that are to test the model."""
    fresh = config.fresh
    assert fresh is not None
    if config.rows.order == "easy-first":
        raise ConfigError("rows.order: easy-first needs all samples at once; leave it out")
    refuse_other_config(dataset.root, dataset.config)
    kinds = len(pair_kinds(dataset.config, config.rows.views))
    if not kinds:
        raise ConfigError(f"rows.views: {config.rows.views!r}, but samples have no such pair")
    if config.kind == "sft" and fresh.schedule in ("aim", "levels"):
        raise ConfigError(
            f"fresh.schedule: {fresh.schedule} goes by the policy's own answers, which are only "
            "there in tvr train grpo; choose uniform or easy-first"
        )
    others = {d.schedule for d in dataset.stream.decisions()} - {fresh.schedule}
    if others:
        raise ConfigError(
            f"dataset: {dataset.root}: its samples are chosen by the schedule {min(others)}, not "
            f"by {fresh.schedule}; name another folder"
        )
    if fresh.pairs > kinds:
        raise ConfigError(f"fresh.pairs: {fresh.pairs}, but a sample has {kinds} of them")
    args = trainer_arguments(config)
    loaders = args.dataloader_num_workers * (args.dataloader_prefetch_factor or 2)
    batch, _ = batch_rows(args)
    # A batch more than is used is read, and with worker processes some more.
    least = math.ceil(batch * (2 + loaders) / fresh.pairs)
    if fresh.ahead < least:
        raise ConfigError(
            f"fresh.ahead: {fresh.ahead} samples, but {least} are read before the first of them is "
            f"used up (batches of {batch} questions); raise it to {least} or more"
        )
    _check_room(dataset, dataset.end if fresh.keep == "all" else min(fresh.ahead, dataset.end))
    own = scenes_of(dataset.manifest)
    tests = [("fresh.held_out", folder) for folder in fresh.held_out]
    if config.validation is not None and config.validation.dataset is not None:
        tests.append(("validation.dataset", config.validation.dataset))
    for key, folder in tests:
        if scenes_of(open_dataset(folder, config.split).manifest) == own:
            raise ConfigError(
                f"{key}: {folder} has the scenes that are trained on (the same recipe and "
                f"seed {fresh.seed}); render it with another seed"
            )
    seen = seen_scenes((config.model, config.adapter)).get(own, [])
    if seen and seen[0][0] < dataset.end:
        raise ConfigError(
            f"fresh.seed: with {fresh.seed}, the model was trained on samples from "
            f"{seen[0][0]} on before; choose another"
        )


def _check_room(dataset: FreshDataset, samples: int) -> None:
    """Whether so many samples fit on the disk, by what they take at most as a rule."""
    config = dataset.config
    pixel = 1.5 + 2 * config.depth + 3 * config.normals
    views = config.image.width * config.image.height * len(expected_views(config))
    needed = samples * (SAMPLE_BYTES + pixel * views) / 1e6
    place = next(p for p in (dataset.root, *dataset.root.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free / 1e6
    if free < needed:
        raise ConfigError(
            f"dataset: {dataset.root}: {samples} samples need about {needed:.0f} MB, {free:.0f} "
            "are free; lower fresh.ahead, set fresh.keep to 0, or name another folder"
        )


def _check_device(config: TrainConfig) -> None:
    wants = [k for k in ("fp16", "tf32") if config.trainer.get(k)]
    if not config.trainer["use_cpu"] and not cuda_available():
        raise ConfigError(
            f"{config.source}: use_cpu: false asks for a GPU, but PyTorch sees none here; "
            "leave it out to run on the CPU"
        )
    if wants and config.trainer["use_cpu"]:
        raise ConfigError(f"{config.source}: {wants[0]}: needs a GPU; set it to false on the CPU")
    if config.trainer.get("use_vllm") and find_spec("vllm") is None:
        raise ConfigError(
            f"{config.source}: use_vllm: vLLM is not installed; docs/serving.md says which one "
            "fits, or leave it out"
        )
    # Trainer would divide every batch among them by DataParallel, which TRL refuses.
    if not config.trainer["use_cpu"] and "LOCAL_RANK" not in os.environ and count_gpus() > 1:
        raise ConfigError(
            f"{config.source}: this process sees {count_gpus()} GPUs and can train on one: put "
            "CUDA_VISIBLE_DEVICES=0 before the command, or start a process for each with "
            f"accelerate launch --multi_gpu --num_processes {count_gpus()} "
            f"-m star_tvr.training.{config.kind} CONFIG"
        )


def _check_batch(config: TrainConfig, planned: int | None = None) -> None:
    """GRPO compares the completions of one prompt, so a batch must hold whole groups."""
    group: int = config.trainer["num_generations"]
    whole, size, steps, processes = _batch(config, planned)
    if group < 2:
        raise ConfigError(f"{config.source}: num_generations: {group}, but a group needs two")
    if whole % group:
        raise ConfigError(
            f"{config.source}: num_generations: {group} does not divide the batch of {whole} = "
            f"{size} (per_device_train_batch_size) x {steps} (gradient_accumulation_steps) x "
            f"{processes} (processes); set gradient_accumulation_steps to a multiple of "
            f"{group // math.gcd(group, size * processes)}"
        )


def _batch(config: TrainConfig, planned: int | None = None) -> tuple[int, int, int, int]:
    """Completions that GRPO makes at once; for each device and pass; passes; processes."""
    get = config.trainer.get
    size = get("per_device_train_batch_size", 8)
    steps = get("steps_per_generation") or get("gradient_accumulation_steps", 1)
    processes = planned or int(os.environ.get("WORLD_SIZE", "1"))
    return get("generation_batch_size") or size * steps * processes, size, steps, processes


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


def _check_streaming(config: TrainConfig, dataset: Dataset) -> None:
    """A stream has no end that the trainer could know, and no way back to a scene."""
    if not config.rows.streaming:
        return
    if not isinstance(dataset, ParquetDataset):
        raise ConfigError(
            f"rows.streaming: {config.dataset} is a folder, whose files are read when they are "
            "needed; leave it out, or export it in the format parquet and read that"
        )
    if config.rows.order == "easy-first":
        raise ConfigError("rows.order: easy-first needs all rows at once; leave out rows.streaming")
    if config.trainer.get("max_steps", -1) < 1:
        raise ConfigError("max_steps: is needed with rows.streaming, since a stream has no length")
    own = config.reward.extra.custom
    extra = [k for k, v in config.reward.extra.to_json().items() if v and k not in own]
    if extra:
        raise ConfigError(
            f"reward.extra.{extra[0]}: looks at the scenes again, which a stream has left behind; "
            "leave out rows.streaming"
        )


def _check_pixels(config: TrainConfig, dataset: Dataset) -> None:
    """Pictures over the cap would be shrunk, and small objects lost."""
    cap, floor = config.processor.get("max_pixels"), config.processor.get("min_pixels")
    if isinstance(cap, int) and isinstance(floor, int) and floor > cap:
        raise ConfigError(f"processor.min_pixels: {floor} is more than max_pixels ({cap})")
    image = dataset.config.image
    pixels = image.width * image.height
    if isinstance(cap, int) and pixels > cap:
        raise ConfigError(
            f"processor.max_pixels: the pictures of {config.dataset} have {image.width} x "
            f"{image.height} = {pixels} pixels, more than {cap}; raise it to {pixels} or render "
            "smaller ones"
        )


def _check_model(config: TrainConfig) -> None:
    if config.model not in TINY:
        check_model(config.model, config.allow_download)
        load_processor(config.model, config.processor, config.allow_download)
    if config.adapter is not None and (fault := adapter_fault(config.adapter)):
        raise ConfigError(f"adapter: {config.adapter} is not an adapter folder ({fault})")

"""The model that a run begins with: loaded, built on the spot, or a checkpoint's."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_tvr.scenes.world import World
from star_tvr.training.config import TINY, TrainConfig, base_model
from star_tvr.training.models import (
    check_model,
    load_adapter,
    load_model,
    load_processor,
    quantization_config,
    quiet_libraries,
    vision_parameters,
)
from star_tvr.training.sharding import uses_zero3
from star_tvr.training.tiny_models import build_tiny
from star_tvr.training.weights import refuse_other_tokenizer

if TYPE_CHECKING:
    from transformers import ProcessorMixin, TrainingArguments


def load_initial_model(
    config: TrainConfig, world: World, args: "TrainingArguments", checkpoint: Path | None = None
) -> tuple[Any, "ProcessorMixin"]:
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
    folder = base_model(config)
    with args.main_process_first(desc="building the model"):
        if config.model in TINY and not Path(folder).is_dir():
            draft = build_tiny(config.model, Path(f"{folder}.draft"), world, config.seed)
            draft.rename(folder)
    processor = load_processor(folder, config.processor, config.allow_download)
    frozen = config.lora is not None or config.adapter is not None
    options: dict[str, Any] = {"dtype": "bfloat16" if args.bf16 and frozen else "float32"}
    options |= config.trainer.get("model_init_kwargs") or {}
    if config.quantization is not None:
        described = check_model(folder, config.allow_download)
        options["quantization_config"] = quantization_config(
            described, config.quantization, str(options["dtype"])
        )
    if checkpoint is not None and not frozen and any(checkpoint.glob("model*.safetensors")):
        # The trainer's own way back takes no notice of names that differ between a model and its
        # files, as those of Qwen2.5-VL do, and would go on from the first weights without a word
        # (https://github.com/huggingface/transformers/issues/43701).
        model = load_model(str(checkpoint), options, config.allow_download)
        model.config.name_or_path = folder  # where TRL finds the reference model
    else:
        model = load_model(folder, options, config.allow_download)
    if config.vision_tower == "frozen" and not frozen:
        for weight in vision_parameters(model):
            weight.requires_grad_(False)
    if config.adapter is not None:
        # ZeRO-3 gathers adapters in the precision of the weights that it finds first, so both must
        # have one. TRL sees to it for adapters that it makes.
        model = load_adapter(model, config.adapter, trainable=True, float32=not uses_zero3(args))
    refuse_other_tokenizer(f"model: {folder}", processor, model)
    return model, processor


def free_models() -> None:
    """Give back the memory of models that nothing uses any more.

    A trainer, its model and its optimiser point at each other, so they stay until Python looks for
    such cycles, which may be long after the next model was loaded.
    """
    import torch

    gc.collect()
    torch.cuda.empty_cache()

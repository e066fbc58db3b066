"""What is known of a model without its weights: its configuration, and from where."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.world import World
from star_tvr.training.config import TINY, TrainConfig, base_model
from star_tvr.training.models import check_model, load_processor
from star_tvr.training.tiny_models import build_tiny

if TYPE_CHECKING:
    from transformers import PretrainedConfig, ProcessorMixin

SHAPES: dict[str, dict[str, Any]] = {
    # From the published config.json of Qwen/Qwen2.5-VL-3B-Instruct and -7B-Instruct.
    "3b": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
}
"""Of the language models of Qwen2.5-VL. Both have the same vision tower."""


def qwen_config(name: str) -> "PretrainedConfig":
    """The configuration of a Qwen2.5-VL of `SHAPES`."""
    from transformers import Qwen2_5_VLConfig

    text = dict(SHAPES[name])
    tied = text.pop("tie_word_embeddings")
    return Qwen2_5_VLConfig(
        text_config={
            **text,
            "tie_word_embeddings": tied,
            "max_position_embeddings": 128000,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1000000.0,
                "mrope_section": [16, 24, 24],
            },
        },
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "num_heads": 16,
            "intermediate_size": 3420,
            "out_hidden_size": text["hidden_size"],
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        tie_word_embeddings=tied,
    )


def find_model(
    config: TrainConfig, world: World
) -> tuple["PretrainedConfig", "ProcessorMixin | None", str]:
    """A model's configuration, its processor, and where they are from, in words.

    Without files, here or in the hub's cache, a Qwen2.5-VL-3B or -7B is known by its shapes, and
    there is no processor. The hub is not asked.

    Raises:
        ConfigError: the model is neither here nor known.
    """
    if config.model in TINY:
        with tempfile.TemporaryDirectory() as scratch:
            folder = build_tiny(config.model, Path(scratch), world, config.seed)
            known = check_model(str(folder))
            return known, load_processor(str(folder), config.processor), "built on the spot"
    name = base_model(config)
    try:
        known = check_model(name)
        return known, load_processor(name, config.processor), f"config.json of {name}"
    except ConfigError:
        shape = next((s for s in SHAPES if f"qwen2.5-vl-{s}" in name.lower()), None)
        if shape is None or Path(name).exists():
            raise
        return qwen_config(shape), None, f"the published shapes of Qwen2.5-VL-{shape.upper()}"

"""A model that transformers does not know: its classes, registered for their `model_type`.

imports: [examples/train/own_model.py]              # in a configuration of training
tvr evaluate … --import examples/train/own_model.py
"""

from typing import Any

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)


class ScaledVLConfig(Qwen2_5_VLConfig):
    """`config.json` says `"model_type": "scaled_vl"`."""

    model_type = "scaled_vl"


class ScaledVL(Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL with a learned scale of what the vision tower says."""

    config: ScaledVLConfig
    config_class = ScaledVLConfig

    def __init__(self, config: ScaledVLConfig) -> None:
        super().__init__(config)
        self.scale = nn.Parameter(Tensor([1.0]))
        self.model.visual.merger.register_forward_hook(self.scaled)

    def scaled(self, _module: nn.Module, _inputs: Any, pictures: Tensor) -> Tensor:
        """Called with the tokens of pictures. Shape: (tokens, hidden size), like `pictures`."""
        return pictures * self.scale


AutoConfig.register(ScaledVLConfig.model_type, ScaledVLConfig)
AutoModelForImageTextToText.register(ScaledVLConfig, ScaledVL)
AutoProcessor.register(ScaledVLConfig, Qwen2_5_VLProcessor)

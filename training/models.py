"""Vision-language models: loading any of them and giving them LoRA adapters.

Nothing here knows what the task is. torch and transformers are imported inside the functions.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_tvr.scenes.errors import ConfigError
from star_tvr.training.config import Lora
from star_tvr.training.errors import TrainingError

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin


def quiet_libraries() -> None:
    """Keep the libraries' progress bars and hints off the terminal.

    Setting TRANSFORMERS_VERBOSITY brings the hints back.
    """
    import warnings

    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        transformers.utils.logging.set_verbosity_error()
        # Said by TRL's and transformers' own code about names they are changing.
        warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)


def check_model(model: str, allow_download: bool = False) -> "PretrainedConfig":
    """Read a model's configuration and make sure it is a vision-language model. No weights.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        allow_download: whether the hub may be asked; otherwise only its local cache is.

    Raises:
        ConfigError: the model cannot be found, or it does not take images and text to text.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    if Path(model).exists() and not (Path(model) / "config.json").is_file():
        raise ConfigError(f"model: {model} is not a model folder (there is no config.json in it)")
    try:
        config = AutoConfig.from_pretrained(model, local_files_only=not allow_download)
    except (OSError, ValueError) as problem:
        if not Path(model).exists():
            hint = "" if allow_download else "; allow_download: true fetches it from the hub"
            raise ConfigError(
                f"model: {model} is neither a folder nor a model in the local cache{hint}"
            ) from None
        raise ConfigError(f"model: {model}: {_line(problem)}") from None
    if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ConfigError(
            f"model: {model} is of type {config.model_type}, which does not read images; "
            "choose a vision-language model"
        )
    return config


def load_processor(
    model: str, options: Mapping[str, Any] | None = None, allow_download: bool = False
) -> "ProcessorMixin":
    """The processor of a model, padding on the left. Works without torchvision.

    Processors that can also read videos need torchvision for that. There are no videos here, so
    they are loaded without that part, everywhere in the same way.

    Args:
        model: a folder, or a name on the hub.
        options: passed on to `from_pretrained`, for instance `max_pixels`.

    Raises:
        TrainingError: the files are missing or damaged, or there is only a tokenizer.
    """
    from transformers import AutoConfig, AutoProcessor, ProcessorMixin
    from transformers.models.auto.processing_auto import (
        PROCESSOR_MAPPING_NAMES,
        processor_class_from_name,
    )

    arguments = {"local_files_only": not allow_download, **(options or {})}
    model_type = AutoConfig.from_pretrained(model, local_files_only=not allow_download).model_type
    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    base = processor_class_from_name(name) if name else None
    loader: Any = AutoProcessor
    if base is not None and "video_processor" in base.get_attributes():
        loader = without_video(base)
    try:
        processor = loader.from_pretrained(model, **arguments)
    except (OSError, ValueError, KeyError, ImportError) as problem:
        raise TrainingError(f"model: the processor of {model}: {_line(problem)}") from None
    if not isinstance(processor, ProcessorMixin) or not hasattr(processor, "image_processor"):
        raise TrainingError(
            f"model: {model} has a tokenizer but no image processor, so it would never see the "
            "pictures; add its preprocessor_config.json"
        )
    tokenizer: Any = processor.tokenizer
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


def without_video(base: type["ProcessorMixin"]) -> type["ProcessorMixin"]:
    """The same processor class, under the same name, without its video part."""

    class Processor(base):
        def __init__(
            self,
            image_processor: Any = None,
            tokenizer: Any = None,
            chat_template: str | None = None,
            **options: Any,
        ) -> None:
            super().__init__(
                image_processor, tokenizer, None, chat_template=chat_template, **options
            )

    Processor.__name__ = Processor.__qualname__ = base.__name__
    return Processor


def load_model(
    model: str, options: Mapping[str, Any] | None = None, allow_download: bool = False
) -> "PreTrainedModel":
    """The weights of a vision-language model.

    Args:
        model: a folder, or a name on the hub.
        options: passed on to `from_pretrained`, for instance `dtype` or `attn_implementation`.

    Raises:
        TrainingError: the weights are missing or damaged.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    arguments = {"local_files_only": not allow_download, **(options or {})}
    try:
        return AutoModelForImageTextToText.from_pretrained(model, **arguments)
    except (OSError, ValueError, SafetensorError) as problem:
        raise TrainingError(f"model: the weights of {model}: {_line(problem)}") from None


def load_adapter(base: "PreTrainedModel", folder: str, trainable: bool) -> "PeftModel":
    """The model with a stored LoRA adapter on it.

    Raises:
        TrainingError: the folder holds no adapter, or one that does not fit the model.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (Path(folder) / "adapter_config.json").is_file():
        raise TrainingError(
            f"adapter: {folder} is not an adapter folder (there is no adapter_config.json in it)"
        )
    try:
        return PeftModel.from_pretrained(base, folder, is_trainable=trainable)
    except (OSError, ValueError, RuntimeError, SafetensorError) as problem:
        raise TrainingError(f"adapter: {folder}: {_line(problem)}") from None


def lora_config(model: "PreTrainedModel", lora: Lora) -> "LoraConfig":
    """Peft's description of the adapters to add to `model`.

    Raises:
        ConfigError: `targets` names no layer of the model.
    """
    from peft import LoraConfig

    targets = lora.targets if lora.targets is not None else language_layers(model)
    if targets != "all-linear" and not any(
        re.fullmatch(targets, name) if isinstance(targets, str) else _ends(name, targets)
        for name, _ in model.named_modules()
    ):
        raise ConfigError(f"lora.targets: {targets!r} matches no layer of the model")
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,  # any number works, though peft says int
        target_modules=targets if isinstance(targets, str) else list(targets),
    )


def language_layers(model: "PreTrainedModel") -> str:
    """A regular expression for the linear layers of the language model, and of nothing else.

    Raises:
        ConfigError: the model's layers have unusual names, so that targets must be spelled out.
    """
    decoder = model.get_decoder()
    prefix = next((name for name, module in model.named_modules() if module is decoder), "")
    pattern = rf"{re.escape(prefix)}\..*\.(q|k|v|o|gate|up|down)_proj"
    if not prefix or not any(re.fullmatch(pattern, name) for name, _ in model.named_modules()):
        raise ConfigError("lora.targets: name the layers to adapt; this model's are unusual")
    return pattern


def _ends(name: str, targets: tuple[str, ...]) -> bool:
    return any(name == t or name.endswith(f".{t}") for t in targets)


def _line(problem: BaseException) -> str:
    """The first sentence of a library's message, on one line."""
    text = " ".join(str(problem).split())
    return text if len(text) < 300 else text[:300] + " …"

"""Vision-language models: loading any of them and giving them LoRA adapters.

Nothing here knows what the task is. torch and transformers are imported inside the functions.
"""

import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_tvr.scenes.errors import ConfigError, DataError, TvrError
from star_tvr.schemas.files import open_file
from star_tvr.training.config import Lora, Processor, TrainConfig
from star_tvr.training.errors import ModelError
from star_tvr.training.weights import refuse_misfit, refuse_non_finite

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch.nn import Parameter
    from transformers import (
        BitsAndBytesConfig,
        GenerationConfig,
        PretrainedConfig,
        PreTrainedModel,
        ProcessorMixin,
    )


def quiet_libraries() -> None:
    """Keep the libraries' progress bars and hints off the terminal.

    Setting TRANSFORMERS_VERBOSITY brings the hints back.
    """
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        transformers.utils.logging.set_verbosity_error()
        # Said by TRL's and transformers' own code about names they are changing.
        warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)


@contextmanager
def reading(what: str, cure: str = "get these files again") -> Iterator[None]:
    """Around a library that reads files of a model, or works as they say.

    Raises:
        ModelError: `what`, the library's complaint, whatever it is, and what to do.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except TvrError:
        raise
    # Such files can name anything, so libraries fail on them in all ways; tokenizers raises plain
    # Exception.
    except Exception as problem:
        raise ModelError(f"{what}: {_line(problem)}; {cure}") from None


def _hub(allow_download: bool) -> dict[str, bool]:
    """Where `from_pretrained` may look. Code beside a model is never run, nor asked about."""
    return {"local_files_only": not allow_download, "trust_remote_code": False}


def check_model(model: str, allow_download: bool = False) -> "PretrainedConfig":
    """Read a model's configuration and make sure it is a vision-language model. No weights.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        allow_download: whether the hub may be asked; otherwise only its local cache is.

    Raises:
        ConfigError: the model cannot be found, or it does not take images and text to text.
        ModelError: its configuration is damaged.
    """
    from transformers import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        AutoConfig,
        GenerationConfig,
    )

    folder = Path(model)
    if folder.exists():
        _check_files(folder)
    try:
        with reading(f"model: the configuration of {model}"):
            config = AutoConfig.from_pretrained(model, **_hub(allow_download))
            if (folder / "generation_config.json").exists():
                GenerationConfig.from_pretrained(model, local_files_only=True)
    except ModelError as problem:
        if not folder.exists():
            hint = "" if allow_download else "; allow_download: true fetches it from the hub"
            raise ConfigError(
                f"model: {model} is neither a folder nor a model in the local cache{hint}"
            ) from None
        if "custom code" in str(problem):
            raise ConfigError(
                f"model: {model} needs code of its own (auto_map in config.json), which is never "
                "run; choose a model that transformers knows"
            ) from None
        if "does not recognize this architecture" in str(problem):
            raise ConfigError(
                f"model: {model} is of a type that transformers does not know; take a newer "
                "transformers, or name the Python file that registers its class: imports in a "
                "configuration of training, --import on the command line"
            ) from None
        raise
    # Those that the user's own modules have registered are in it.
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ConfigError(
            f"model: {model} is of type {config.model_type}, which does not read images; "
            "choose a vision-language model"
        )
    return config


def _check_files(folder: Path) -> None:
    """Raise ConfigError unless a folder looks like that of a model, and can be read."""
    if not (folder / "config.json").exists():
        raise ConfigError(f"model: {folder} is not a model folder (there is no config.json in it)")
    if (folder / "adapter_config.json").exists():
        raise ConfigError(
            f"model: {folder} holds an adapter (adapter_config.json); name it as the adapter, and "
            "the model that it is for as the model"
        )
    pickles = sorted(p.name for p in folder.glob("pytorch_model*.bin"))
    if pickles and not any(folder.glob("model*.safetensors")):
        raise ConfigError(f"model: {folder / pickles[0]}: {NO_PICKLES}")
    _check_ordinary("model", folder)


NO_PICKLES = "is a pickle, which can hold code, and is not read; store the weights as safetensors"


def _check_ordinary(key: str, folder: Path) -> None:
    """Raise ConfigError for a file that cannot be read, or a pipe, which might have no end."""
    try:
        for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
            open_file(path).close()
    except DataError as problem:
        raise ConfigError(f"{key}: {problem}") from None


def adapter_fault(folder: str) -> str:
    """Why a folder cannot be that of an adapter, as far as its names tell; empty if it can."""
    if not Path(folder, "adapter_config.json").exists():
        return "there is no adapter_config.json in it"
    if Path(folder, "adapter_model.safetensors").exists():
        return ""
    if Path(folder, "adapter_model.bin").exists():
        return f"adapter_model.bin {NO_PICKLES}"
    return "there is no adapter_model.safetensors in it"


def load_processor(
    model: str, options: Processor | None = None, allow_download: bool = False
) -> "ProcessorMixin":
    """The processor of a model, padding on the left. Works without torchvision.

    Processors that can also read videos need torchvision for that. There are no videos here, so
    they are loaded without that part, everywhere in the same way; its settings are kept and stored
    again, since others who open what is trained here ask for them.

    Args:
        model: a folder, or a name on the hub.
        options: passed on to `from_pretrained`, for instance `max_pixels`.

    Raises:
        ModelError: the files are missing or damaged, there is only a tokenizer, or its template
            shows no pictures.
    """
    from transformers import PROCESSOR_MAPPING, AutoConfig, AutoProcessor, ProcessorMixin
    from transformers.models.auto.video_processing_auto import get_video_processor_config

    where = f"model: the processor of {model}"
    with reading(where):
        config = AutoConfig.from_pretrained(model, **_hub(allow_download))
        base = PROCESSOR_MAPPING.get(type(config), None)
        loader: Any = AutoProcessor
        if base is not None and "video_processor" in base.get_attributes():
            loader = without_video(base)
        processor = loader.from_pretrained(model, **dict(options or {}), **_hub(allow_download))
        if loader is not AutoProcessor:
            processor.video_settings = get_video_processor_config(
                model, local_files_only=not allow_download
            )
    if not isinstance(processor, ProcessorMixin) or not hasattr(processor, "image_processor"):
        raise ModelError(
            f"model: {model} has a tokenizer but no image processor, so it would never see the "
            "pictures; add its preprocessor_config.json"
        )
    tokenizer: Any = processor.tokenizer
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    with reading(f"model: the chat template of {model}"):
        parts = [{"type": "image"}, {"type": "text", "text": "which?"}]
        with_image, without = (
            processor.apply_chat_template([{"role": "user", "content": content}])
            for content in (parts, parts[1:])
        )
    if with_image == without:
        raise ModelError(f"model: the chat template of {model} shows no pictures; get it again")
    return processor


def without_video(base: type["ProcessorMixin"]) -> type["ProcessorMixin"]:
    """The same processor class, under the same name, without its video part.

    Its attribute `video_settings` is what `save_pretrained` writes of that part: the settings of
    the model it came from, or, where that has none, those of the pictures, which the published
    Qwen2.5-VL has for both.
    """
    from transformers.utils import VIDEO_PROCESSOR_NAME

    class WithoutVideo(base):
        def __init__(
            self,
            image_processor: Any = None,
            tokenizer: Any = None,
            chat_template: str | None = None,
            **options: Any,
        ) -> None:
            options.pop("video_processor", None)  # where its settings stand among the others
            super().__init__(
                image_processor, tokenizer, None, chat_template=chat_template, **options
            )
            self.video_settings: dict[str, Any] = {}

        def save_pretrained(self, save_directory: str | Path, **options: Any) -> list[str]:
            written = super().save_pretrained(save_directory, **options)
            settings = self.video_settings or self.image_processor.to_dict()
            path = Path(save_directory, VIDEO_PROCESSOR_NAME)
            path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
            return [*written, str(path)]

    WithoutVideo.__name__ = WithoutVideo.__qualname__ = base.__name__
    return WithoutVideo


def load_model(
    model: str, options: Mapping[str, Any] | None = None, allow_download: bool = False
) -> "PreTrainedModel":
    """The weights of a vision-language model.

    Args:
        model: a folder, or a name on the hub.
        options: passed on to `from_pretrained`, for instance `dtype` or `attn_implementation`.

    Raises:
        ModelError: the weights are missing, damaged, those of another model, or no numbers.
    """
    from transformers import AutoModelForImageTextToText

    ours = {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    where = f"model: the weights of {model}"
    with reading(where):
        loaded, found = AutoModelForImageTextToText.from_pretrained(
            model, **{**(options or {}), **_hub(allow_download), **ours}
        )
    refuse_misfit(where, found["missing_keys"], found["unexpected_keys"], found["mismatched_keys"])
    refuse_non_finite(where, loaded.state_dict())
    loaded.generation_config = without_sampling(loaded.generation_config)
    return loaded


def without_sampling(config: "GenerationConfig") -> "GenerationConfig":
    """The special tokens of a model, without the sampling settings that its files bring along.

    Answers are drawn as the caller says and in no other way, in training and evaluation alike, and
    a model that is stored again brings no others along for a server.
    """
    from transformers import GenerationConfig

    return GenerationConfig(**{key: getattr(config, key) for key in SPECIAL_TOKENS})


SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def load_adapter(
    base: "PreTrainedModel", folder: str, trainable: bool, float32: bool = True
) -> "PeftModel":
    """The model with a stored LoRA adapter on it.

    Args:
        base: the model.
        folder: of the adapter.
        trainable: whether it is to go on being trained.
        float32: whether an adapter in half precision is raised to float32; otherwise it has the
            precision of the model.

    Raises:
        ConfigError: a file in it cannot be read.
        ModelError: it holds no adapter, or one that is damaged or does not fit the model.
    """
    from peft import LoraConfig, PeftConfig, get_peft_model, get_peft_model_state_dict

    if fault := adapter_fault(folder):
        raise ModelError(f"adapter: {folder} is not an adapter folder ({fault})")
    _check_ordinary("adapter", Path(folder))
    where = f"adapter: {folder}"
    with reading(where):
        config = PeftConfig.from_pretrained(folder)
        # Megatron's settings name a module to import.
        if not isinstance(config, LoraConfig) or config.megatron_config:
            raise ModelError(f"{where}: is not a plain LoRA adapter; only those are read")
        config.inference_mode = not trainable
        config.base_model_name_or_path = base.name_or_path
        model = get_peft_model(base, config, autocast_adapter_dtype=float32)
        found = model.load_adapter(
            folder, "default", is_trainable=trainable, autocast_adapter_dtype=float32
        )
        weights = get_peft_model_state_dict(model)
    refuse_misfit(where, found.missing_keys, found.unexpected_keys)
    refuse_non_finite(where, weights)
    return model


def adapters_to_train(config: TrainConfig, model: "PreTrainedModel") -> "LoraConfig | None":
    """The adapters that a run adds to its model; None if it trains something else."""
    if config.lora is None:
        return None
    return lora_config(model, config.lora, config.vision_tower == "trained")


def lora_config(model: "PreTrainedModel", lora: Lora, vision: bool = False) -> "LoraConfig":
    """Peft's description of the adapters to add to `model`.

    Args:
        model: loaded, or its skeleton.
        lora: the configuration's block.
        vision: whether the vision tower gets adapters, too, where `lora.targets` names no layers.

    Raises:
        ConfigError: `targets` names no layer of the model.
    """
    from peft import LoraConfig

    targets = lora.targets
    if targets is None:
        targets = language_layers(model)
        if vision:
            targets = f"{targets}|{vision_layers(model)}"
    if targets != "all-linear" and not any(
        re.fullmatch(targets, name) if isinstance(targets, str) else _ends(name, targets)
        for name, _ in model.named_modules()
    ):
        raise ConfigError(f"lora.targets: {targets!r} matches no layer of the model")
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,  # any number works, though peft says int
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )


def language_layers(model: "PreTrainedModel") -> str:
    """A regular expression for the linear layers of the language model, and of nothing else.

    Raises:
        ConfigError: the model's layers have unusual names, so that targets must be spelled out.
    """
    prefix = decoder_name(model)
    pattern = rf"{re.escape(prefix)}\..*\.(q|k|v|o|gate|up|down)_proj"
    if not prefix or not any(re.fullmatch(pattern, name) for name, _ in model.named_modules()):
        raise ConfigError("lora.targets: name the layers to adapt; this model's are unusual")
    return pattern


def vision_layers(model: "PreTrainedModel") -> str:
    """A regular expression for the linear layers of the vision tower and its projection."""
    from torch.nn import Linear

    head = model.get_output_embeddings()
    names = [
        re.sub(r"\\\.\d+(?=\\)", r"\\.\\d+", re.escape(name))
        for name, module in model.named_modules()
        if isinstance(module, Linear) and module is not head and not in_decoder(model, name)
    ]
    return "|".join(dict.fromkeys(names))


def vision_parameters(model: "PreTrainedModel") -> "Iterator[Parameter]":
    """The weights that are neither the language model's nor those of its output layer."""
    head = model.get_output_embeddings()
    heads = set() if head is None else {id(weight) for weight in head.parameters()}
    for name, weight in model.named_parameters():
        if id(weight) not in heads and not in_decoder(model, name):
            yield weight


def decoder_name(model: "PreTrainedModel") -> str:
    """The full name of the language model within a vision-language model; empty if it has none."""
    decoder = model.get_decoder()
    return next((name for name, module in model.named_modules() if module is decoder), "")


def in_decoder(model: "PreTrainedModel", name: str) -> bool:
    """Whether a module or weight of this full name belongs to the language model."""
    return name.startswith(f"{decoder_name(model)}.")


def build_skeleton(config: "PretrainedConfig", **options: Any) -> "PreTrainedModel":
    """A model without values: all its modules, with weights on PyTorch's device `meta`.

    Args:
        config: of the model.
        options: such as `dtype` and `attn_implementation`.
    """
    import torch
    from transformers import AutoModelForImageTextToText
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():
        model = AutoModelForImageTextToText.from_config(config, **options)
    model.tie_weights()
    return model


def quantization_config(
    config: "PretrainedConfig", bits: str, dtype: str = "bfloat16"
) -> "BitsAndBytesConfig":
    """How bitsandbytes holds the language model's linear layers, and no others.

    The vision tower keeps its precision: what is asked about are details of pictures.

    Args:
        config: of the model.
        bits: `4bit`: NF4 with its scales quantized again, as in QLoRA (arXiv 2305.14314); or
            `8bit`: LLM.int8().
        dtype: in which 4 bits are computed with.
    """
    from transformers import BitsAndBytesConfig

    others = rf"(?!{re.escape(decoder_name(build_skeleton(config)))}\.).*"
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=[others])
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[others],
    )


def _ends(name: str, targets: tuple[str, ...]) -> bool:
    return any(name == t or name.endswith(f".{t}") for t in targets)


def _line(problem: BaseException) -> str:
    """The first sentence of a library's message, on one line."""
    text = " ".join(str(problem).split()).rstrip(".")
    if not isinstance(problem, OSError | ValueError | RuntimeError):
        text = f"{type(problem).__name__}: {text}"
    return text if len(text) < 300 else text[:300] + " …"

"""Vision-language models: loading any of them, giving them LoRA adapters, and building tiny ones.

Nothing here knows what the task is, except the tokenizer of the tiny models, which is trained on
the project's own prompts. torch and transformers are imported inside the functions.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.config import TransformationsConfig
from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.seeds import derive
from star_tvr.scenes.world import ATTRIBUTES, World
from star_tvr.training.errors import TrainingError
from star_tvr.training.prompts import SYSTEM, PromptConfig, legend, rules

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin

TINY = ("tiny", "tiny-idefics3", "tiny-64", "small-64")
"""Models that are built on the spot: Qwen2.5-VL's architecture (the paper's) and Idefics3's.

The first two only run every part of the training. The last two, of 0.9 and 9 million parameters,
learn from pictures of 64 x 64 pixels; docs/proof.md shows what.
"""


@dataclass(frozen=True)
class Lora:
    """The `lora` block of a training configuration.

    Attributes:
        r: rank.
        alpha: the update is scaled by alpha / r.
        targets: module names, or a regular expression over full module names; None is every
            linear layer of the language model, leaving the vision tower as it is.
    """

    r: int = 16
    alpha: float = 32
    targets: str | tuple[str, ...] | None = None


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


# --- Loading -----------------------------------------------------------------------------------


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
        loader = _without_video(base)
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


def _without_video(base: type["ProcessorMixin"]) -> type["ProcessorMixin"]:
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


# --- Tiny models -------------------------------------------------------------------------------

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
IDEFICS3_SPECIAL = (
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    *(f"<row_{i + 1}_col_{j + 1}>" for i in range(6) for j in range(6)),
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
VOCABULARY_SIZE = 2048


def build_tiny(family: str, folder: Path, world: World, seed: int = 0) -> Path:
    """Make a tiny vision-language model with random weights and save it like any other.

    The same arguments give the same files. It knows nothing: it is there to run every part of
    the training on any machine in minutes.

    Args:
        family: one of TINY.
        folder: where the model and its processor go.
        world: the vocabulary its tokenizer learns.
        seed: of the weights.

    Raises:
        ConfigError: there is no such family.
    """
    if family not in TINY:
        raise ConfigError(f"model: {family} is not a tiny model; known are {', '.join(TINY)}")
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "tiny", family) % 2**63)
        tokenizer = train_tokenizer(world)
        if family in _IDEFICS3:
            model, processor = _idefics3(tokenizer, _IDEFICS3[family])
        else:
            model, processor = _tiny_qwen(tokenizer)
        _draw_weights(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def train_tokenizer(world: World) -> "Tokenizer":
    """A byte-level BPE tokenizer trained on the words of prompts and answers.

    Every text survives a round trip; a word of the vocabulary, with the dot or the space before
    it, is one token, so `2.color.cyan` is three.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    words = Regex(r"\n+| ?\d|[ .]?[A-Za-z]+(?:-[A-Za-z]+)*|[^A-Za-z0-9\n]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[*SPECIAL, *IDEFICS3_SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tokenizer_corpus(world), trainer)
    tokenizer.add_tokens(list(TAGS))  # ordinary tokens, so that decoding never skips them
    return tokenizer


def tokenizer_corpus(world: World) -> Iterator[str]:
    """Texts that between them hold every word of the prompts and answers of a vocabulary."""
    yield SYSTEM
    yield from rules(world, TransformationsConfig(), Camera((1.0, 1.0, 1.0)))
    yield from (legend(320, 240, PromptConfig(location=where)) for where in ("pixel", "cell"))
    yield from (f"first\nsecond\n references not in [{n} left {n}] [A right B]" for n in range(10))
    yield from (f" [C behind D] [E front F] {a}: unchanged {a} {a}" for a in ATTRIBUTES)
    yield from (f">{value}" for attribute in ATTRIBUTES for value in world.values(attribute))
    yield "system\n user\n assistant\n outside the picture at in cell"
    for attribute in ATTRIBUTES:
        for value in world.values(attribute):
            yield f"{value}, {value}"
            yield f"<answer>0.{attribute}.{value}, 1.{attribute}.{value}; 2.{attribute}.{value}"
    yield from (f"({n}, {n}) {n},{n}" for n in range(100))


def _tiny_qwen(tokenizer: "Tokenizer") -> "tuple[PreTrainedModel, ProcessorMixin]":
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
    )

    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 3, 3],  # halves of the head size: 64 / 4 / 2 in all
            },
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
            "window_size": 112,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    processor = _without_video(Qwen2_5_VLProcessor)(
        Qwen2VLImageProcessor(),
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
        ),
        chat_template=CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return model, processor


class _Measures(NamedTuple):
    """Of an Idefics3: pictures and patches in pixels, widths and numbers of layers."""

    side: int
    patch: int
    vision: int
    vision_layers: int
    text: int
    text_layers: int
    heads: int


_IDEFICS3 = {
    "tiny-idefics3": _Measures(128, 16, 32, 2, 64, 2, 4),
    "tiny-64": _Measures(64, 8, 96, 2, 128, 3, 4),
    "small-64": _Measures(64, 8, 256, 4, 320, 6, 8),
}


def _idefics3(tokenizer: "Tokenizer", size: _Measures) -> "tuple[PreTrainedModel, ProcessorMixin]":
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
        PreTrainedTokenizerFast,
    )

    scale = 2
    ids = {token: tokenizer.token_to_id(token) for token in (*SPECIAL, "<image>")}
    config = Idefics3Config(
        text_config={
            "model_type": "llama",
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": size.text,
            "intermediate_size": 2 * size.text,
            "num_hidden_layers": size.text_layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.heads // 2,
            "max_position_embeddings": 4096,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "hidden_size": size.vision,
            "intermediate_size": 2 * size.vision,
            "num_hidden_layers": size.vision_layers,
            "num_attention_heads": size.heads // 2,
            "image_size": size.side,
            "patch_size": size.patch,
        },
        image_token_id=ids["<image>"],
        pad_token_id=ids["<|endoftext|>"],
        scale_factor=scale,
    )
    model = Idefics3ForConditionalGeneration(config)
    edge = {"longest_edge": size.side}
    processor = Idefics3Processor(
        Idefics3ImageProcessor(do_image_splitting=False, size=edge, max_image_size=edge),
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
        ),
        image_seq_len=(size.side // size.patch // scale) ** 2,
        chat_template=CHATML.replace("IMAGE", "<image>"),
    )
    return model, processor


def _draw_weights(model: "PreTrainedModel") -> None:
    """Random weights at a scale that small models learn from.

    The libraries' 0.02 is meant for wide layers; in a narrow model it leaves nearly flat outputs.
    """
    import torch

    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.nn.Parameter) and weight.ndim >= 2:
            embedding = isinstance(module, torch.nn.Embedding)
            std = 0.2 if embedding else weight[0].numel() ** -0.5
            torch.nn.init.normal_(weight, std=std)

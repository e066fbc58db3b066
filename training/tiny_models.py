"""Tiny vision-language models with random weights, built on the spot.

Their tokenizer is trained on the project's own prompts. torch and transformers are imported inside
the functions.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.config import TransformationsConfig
from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.seeds import derive
from star_tvr.scenes.world import ATTRIBUTES, World
from star_tvr.training.config import SYSTEM, TINY, PromptConfig
from star_tvr.training.models import without_video
from star_tvr.training.prompts import legend, rules

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, ProcessorMixin


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
    processor = without_video(Qwen2_5_VLProcessor)(
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

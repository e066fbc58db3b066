"""A model on this machine as something that can be asked."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_tvr.scenes.errors import ParameterError
from star_tvr.schemas.files import open_file
from star_tvr.training.backends import Decoding, Question, Response
from star_tvr.training.config import ModelInput
from star_tvr.training.models import (
    adapter_fault,
    check_model,
    load_adapter,
    load_model,
    load_processor,
    quiet_libraries,
    reading,
)
from star_tvr.training.picture_size import seen_size
from star_tvr.training.prompts import Message, with_images
from star_tvr.training.rows import RowReader
from star_tvr.training.run_folder import stored_input
from star_tvr.training.weights import refuse_other_tokenizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LocalModel:
    """A vision-language model, run by transformers.

    Attributes:
        model: a folder, or a hub name.
        adapter: a folder with a LoRA adapter for it.
        batch_size: questions asked at once.
        device: a device of PyTorch, such as `cpu`, `cuda:1` or `mps`; `auto` is an accelerator
            where there is one.
        allow_download: whether the hub may be asked for the model.
    """

    model: str
    adapter: str | None = None
    batch_size: int = 8
    device: str = "auto"
    allow_download: bool = False

    @property
    def temperature(self) -> float:
        """Greedy, unless a temperature is given."""
        return 0.0

    def check(self) -> None:
        """Make sure that there is such a model, adapter and device.

        Raises:
            ConfigError, ModelError: there is not, or its configuration is damaged.
        """
        check_model(self.model, self.allow_download)
        if self.adapter is not None and (fault := adapter_fault(self.adapter)):
            raise ParameterError("adapter", fault, self.adapter)
        find_device(self.device)

    def identity(self) -> dict[str, Any]:
        """Model, adapter, the processor's arguments, and a fingerprint of the weights."""
        return {
            "model": self.model,
            "adapter": self.adapter,
            "processor": self.trained().processor,
            "weights": fingerprint([p for p in (self.model, self.adapter) if p is not None]),
        }

    def trained(self) -> ModelInput:
        """How the adapter, else the model, was asked in its training. Raises ConfigError."""
        return stored_input(self.adapter) or stored_input(self.model) or ModelInput()

    def answers(
        self, reader: RowReader, questions: Sequence[Question], decoding: Decoding
    ) -> Iterator[Response]:
        """Load the weights, and answer batch by batch.

        Raises:
            DataError: an image is missing or damaged.
            TrainingError: the model cannot be loaded.
        """
        loaded = LoadedModel.load(self, reader, decoding)
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            yield from loaded.complete(batch)


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, with all it needs to answer.

    Attributes:
        reader: makes the questions.
        model, processor: from transformers.
        decoding: how its words become an answer.
    """

    reader: RowReader
    model: Any
    processor: Any
    decoding: Decoding

    @classmethod
    def load(cls, local: LocalModel, reader: RowReader, decoding: Decoding) -> "LoadedModel":
        """Load the weights. Raises TrainingError."""
        quiet_libraries()
        processor = load_processor(local.model, local.trained().processor, local.allow_download)
        device = find_device(local.device)
        dtype = "float32" if device == "cpu" else "bfloat16"
        model = load_model(local.model, {"dtype": dtype}, local.allow_download)
        if local.adapter is not None:
            model = load_adapter(model, local.adapter, trainable=False)
        refuse_other_tokenizer(f"model: {local.model}", processor, model)
        reader = replace(reader, seen=seen_size(processor, reader.dataset))
        return cls(reader, model.to(device).eval(), processor, decoding)

    def complete(self, questions: Sequence[Question]) -> list[Response]:
        """The answers to some questions, in their order.

        Raises:
            DataError: an image is missing or damaged.
            ModelError: the model cannot work as its files say.
        """
        import torch
        from transformers import LogitsProcessorList

        rows = [self.reader.row(question.pair) for question in questions]
        noise = []
        if self.decoding.temperature:
            seeds = [self.decoding.seed_of(question) for question in questions]
            noise = [GumbelNoise(self.decoding.temperature, seeds)]
        where = f"model: {self.model.name_or_path} cannot answer"
        cure = "mend its files, or lower batch_size if memory is short"
        ends = end_tokens(self.model, self.processor)
        # Not inference_mode: a model that is being trained keeps tensors that are made here.
        with reading(where, cure), torch.no_grad():
            inputs = self.encode([with_images(row["prompt"], row["images"]) for row in rows])
            tokens = self.model.generate(
                **inputs,
                max_new_tokens=self.decoding.max_new_tokens,
                do_sample=False,
                logits_processor=LogitsProcessorList(noise),
                pad_token_id=self.processor.tokenizer.pad_token_id,
                eos_token_id=ends,
                # As in TRL's rollouts: there is no image for such a token.
                suppress_tokens=image_tokens(self.model),
            )
            new = tokens[:, inputs["input_ids"].shape[1] :]
            texts: list[str] = self.processor.batch_decode(new, skip_special_tokens=True)
        asked = inputs["attention_mask"].sum(dim=1).tolist()
        answers = []
        for question, text, row, length in zip(questions, texts, new.tolist(), asked, strict=True):
            reason, count = ending(row, ends)
            answers.append(Response(question, text, "", reason, length, count))
        return answers

    def encode(self, conversations: Sequence[Sequence[Message]]) -> Any:
        """The model's inputs for some conversations, padded on the left."""
        inputs = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        return inputs.to(self.model.device)


def end_tokens(model: Any, processor: Any) -> list[int]:
    """The tokens that end an answer, as TRL's GRPO has them: the model's and the tokenizer's."""
    given = model.generation_config.eos_token_id
    own = [given] if isinstance(given, int) else list(given or ())
    last = processor.tokenizer.eos_token_id
    return own if last is None or last in own else [last, *own]


def image_tokens(model: Any) -> list[int] | None:
    """The token that stands for a piece of an image, if the model's configuration names it."""
    token = getattr(model.config, "image_token_id", None)
    return None if token is None else [token]


def ending(tokens: Sequence[int], ends: Sequence[int]) -> tuple[str, int]:
    """Why an answer ended and how many tokens it has, the one that ends it included.

    >>> ending([5, 7, 2, 0, 0], [2]), ending([5, 7, 7, 7, 7], [2])
    (('stop', 3), ('length', 5))
    """
    for place, token in enumerate(tokens):
        if token in ends:
            return "stop", place + 1
    return "length", len(tokens)


class GumbelNoise:
    """Makes greedy decoding draw from softmax(logits / temperature), each row with its own seed.

    The largest of logits / T + g, with g drawn from the standard Gumbel distribution, falls on each
    token with its probability (the Gumbel-max trick: Gumbel 1954; Maddison et al. 2014). Sampling
    by `generate` itself has one generator for a whole batch, so that answers would depend on what
    else is in it, and on where an evaluation was interrupted.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        self.seeds = seeds
        self.generators: list[Any] = []

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Scores with noise. Shape: (rows, tokens), like `scores`."""
        import torch

        if not self.generators:
            self.generators = [torch.Generator(scores.device).manual_seed(s) for s in self.seeds]
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        # An exponential variable's logarithm is a Gumbel variable, negated.
        return scores / self.temperature - noise.clamp_min_(1e-30).log_()


def find_device(name: str) -> str:
    """A device of PyTorch by its name; `auto` is an accelerator where there is one.

    Raises:
        ParameterError: there is no such device here.
    """
    import torch

    found = torch.accelerator.is_available()
    kind = torch.accelerator.current_accelerator().type if found else "cpu"
    if name == "auto":
        return kind
    try:
        device = torch.device(name)
    except RuntimeError:
        message = "is no device of PyTorch; use auto, cpu, cuda, cuda:1, mps or xpu"
        raise ParameterError("device", message, name) from None
    if device.type == "cpu":
        return "cpu"
    count = torch.accelerator.device_count() if device.type == kind else 0
    if (device.index or 0) >= count:
        here = "no GPU" if kind == "cpu" else f"{torch.accelerator.device_count()} of kind {kind}"
        raise ParameterError("device", f"PyTorch sees {here} here; use {kind}", name)
    return name


def fingerprint(folders: Sequence[str]) -> str:
    """A hash that changes when the weights in some folders do.

    Of every weight file it reads the size and both ends, which is fast for any size: training
    changes all weights, so also those. Names on the hub count as names.
    """
    digest = hashlib.sha256()
    for folder in folders:
        digest.update(os.fsencode(folder))
        for path in sorted(Path(folder).glob("*.safetensors")):
            with open_file(path) as file:
                size = file.seek(0, os.SEEK_END)
                digest.update(f"{path.name} {size}".encode())
                file.seek(0)
                digest.update(file.read(1 << 20))
                file.seek(max(0, size - (1 << 20)))
                digest.update(file.read())
    return digest.hexdigest()[:16]

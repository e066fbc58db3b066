"""Answers drawn by vLLM: that it reads the very prompts that the trainer scores.

A processor writes a picture as as many tokens as the model has features of it. TRL 1.16 hands such
ids to a colocated vLLM together with the picture, and vLLM, which wants one token a picture, writes
the first of them out again: the prompt grows, and the second picture lands in the place of the
first (https://github.com/huggingface/trl/issues/6294; not mended in any release yet). A server is
asked for the features apart, but nobody compares how many there are with the tokens of the prompt.
Here the ids are folded before they are sent, and what vLLM makes of them is compared every time.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from star_tvr.training.config import Processor
from star_tvr.training.errors import TrainingError


def fold_pictures(ids: Iterable[int], picture: int) -> list[int]:
    """A prompt in which every picture is one token.

    >>> fold_pictures([7, 9, 9, 9, 8, 7, 9, 9, 8], picture=9)
    [7, 9, 8, 7, 9, 8]

    Args:
        ids: of a prompt, with a run of one token for every picture.
        picture: that token.
    """
    return [
        token for token, run in groupby(ids) for token in ([token] if token == picture else run)
    ]


def picture_lengths(ids: Iterable[int], picture: int) -> list[int]:
    """How many tokens every picture of a prompt has.

    >>> picture_lengths([7, 9, 9, 9, 8, 7, 9, 9, 8], picture=9)
    [3, 2]
    """
    return [len(list(run)) for token, run in groupby(ids) if token == picture]


def read_as_scored(trainer: Any, processor: Processor) -> None:
    """Make the vLLM of a trainer read the prompts that the trainer scores, or stop the run.

    Args:
        trainer: TRL's, with `use_vllm`.
        processor: arguments of the processor, which a colocated vLLM needs as well.

    Raises:
        TrainingError: at the first batch, and at every later one, of which vLLM reads anything
            else than what is scored.
    """
    generation = trainer.vllm_generation
    picture: int = trainer.processing_class.image_token_id
    if generation.mode == "colocate":
        _fold_and_compare(generation.llm, picture, processor)
    elif trainer.accelerator.is_main_process:  # the only one that talks to the server
        _compare_features(generation.vllm_client, picture)


def _fold_and_compare(llm: Any, picture: int, processor: Processor) -> None:
    """For a `vllm.LLM`: send prompts folded, and compare what was read with what was meant."""
    generate = llm.generate

    def guarded(prompts: Sequence[Mapping[str, Any]], **options: Any) -> Any:
        folded = [
            {
                **prompt,
                "prompt_token_ids": fold_pictures(prompt["prompt_token_ids"], picture),
                "mm_processor_kwargs": dict(processor),
            }
            for prompt in prompts
        ]
        outputs = generate(folded, **options)
        for prompt, output in zip(prompts, outputs, strict=True):
            scored, read = list(prompt["prompt_token_ids"]), list(output.prompt_token_ids)
            if scored != read:
                raise TrainingError(
                    f"use_vllm: vLLM read a prompt as {len(read)} tokens, pictures of "
                    f"{picture_lengths(read, picture)}, that the trainer scores as {len(scored)}, "
                    f"pictures of {picture_lengths(scored, picture)}; take use_vllm: false"
                )
        return outputs

    llm.generate = guarded


def _compare_features(client: Any, picture: int) -> None:
    """For TRL's `VLLMClient`: send no prompt whose pictures have other lengths on the server.

    The server puts its features where the trainer's tokens of a picture begin, and takes the ids as
    they are (`vllm.entrypoints.scale_out.token_in_token_out`), so the lengths are all that can
    differ.
    """
    image_features, generate = client.image_features, client.generate
    lengths: list[list[int]] = []

    def remembered(images: Any, **options: Any) -> Any:
        features = image_features(images, **options)
        lengths[:] = [
            [place["length"] for place in f["mm_placeholders"]["image"]] for f in features
        ]
        return features

    def guarded(prompts: Sequence[Sequence[int]], **options: Any) -> Any:
        for ids, read in zip(prompts, lengths, strict=True):
            scored = picture_lengths(ids, picture)
            if scored != read:
                raise TrainingError(
                    f"use_vllm: the server has pictures of {read} tokens where the trainer scores "
                    f"{scored}; start it with the values of the key processor, such as "
                    """--mm-processor-kwargs '{"max_pixels": 100352}'"""
                )
        return generate(prompts, **options)

    client.image_features, client.generate = remembered, guarded

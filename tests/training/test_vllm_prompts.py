"""What TRL's own code sends to vLLM once it is guarded; test_vllm.py does it with a real vLLM."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from trl.generation import vllm_generation
from trl.generation.vllm_generation import VLLMGeneration

from star_tvr.training.errors import TrainingError
from star_tvr.training.models import load_processor
from star_tvr.training.vllm_prompts import picture_lengths, read_as_scored

SIZE = (160, 120)
"""Of pictures that are 24 tokens, with the model's own limits."""


class Engine:
    """Expands prompts as `vllm.LLM` 0.30.0 does: the first so many picture tokens, one each.

    It made 111 tokens of the 65 of the prompt below, which is what this one makes of them.
    """

    def __init__(self, processor):
        self.processor = processor
        self.seen = []

    def generate(self, prompts, **options):
        self.seen += prompts
        return [self.answer(prompt) for prompt in prompts]

    def answer(self, prompt):
        limits = prompt.get("mm_processor_kwargs") or {}
        sizes = [image.size[::-1] for image in prompt["multi_modal_data"]["image"]]
        found = self.processor._get_num_multimodal_tokens(image_sizes=sizes, **limits)
        lengths, ids = list(found["num_image_tokens"]), []
        for token in prompt["prompt_token_ids"]:
            picture = token == self.processor.image_token_id and lengths
            ids += [token] * lengths.pop(0) if picture else [token]
        text = SimpleNamespace(token_ids=[7], logprobs=None)
        return SimpleNamespace(prompt_token_ids=ids, outputs=[text])


class Server:
    """A client of a server whose pictures have a length; what is sent to it is kept."""

    def __init__(self, lengths):
        self.lengths, self.sent = lengths, []

    def image_features(self, images):
        places = [{"offset": 5, "length": length} for length in self.lengths]
        return [{"mm_placeholders": {"image": places}} for _ in images]

    def generate(self, prompts, features, **options):
        self.sent += [f["mm_placeholders"]["image"] for f in features]
        answers = [[7] for _ in prompts for _ in range(options["n"])]
        return {"prompt_ids": prompts, "completion_ids": answers, "logprobs": None}


@pytest.fixture
def trainer(tiny, monkeypatch):
    """TRL's generation for the tiny Qwen2.5-VL, with an engine or a client to be put into it."""

    def make(mode, options=None, **parts):
        generation = VLLMGeneration.__new__(VLLMGeneration)  # which would start an engine
        generation.mode, generation.accelerator = mode, Accelerator(cpu=True)
        generation.processing_class = load_processor(str(tiny["tiny"]), options)
        generation.temperature = generation.top_p = generation.repetition_penalty = 1.0
        generation.top_k, generation.min_p, generation.max_completion_length = 0, None, 4
        generation.logprobs, generation.structured_outputs_regex = 0, None
        generation.generation_kwargs, generation.enable_sleep_mode = {}, False
        generation.tensor_parallel_size, generation.model = 1, torch.nn.Module()
        vars(generation).update(parts)
        processor, accelerator = generation.processing_class, generation.accelerator
        return SimpleNamespace(
            vllm_generation=generation, processing_class=processor, accelerator=accelerator
        )

    monkeypatch.setattr(vllm_generation, "SamplingParams", dict, raising=False)  # vLLM's own
    return make


def prompt(processor):
    images = [Image.new("RGB", SIZE, color) for color in ("red", "blue")]
    parts = [*({"type": "image"} for _ in images), {"type": "text", "text": "0 small"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True
    )
    return [int(i) for i in processor(text=[text], images=images)["input_ids"][0]], images


def test_a_colocated_engine_reads_what_is_scored(trainer, tiny):
    stock = trainer("colocate", llm=Engine(load_processor(str(tiny["tiny"]))))
    ids, images = prompt(stock.processing_class)
    read = stock.vllm_generation.generate([ids], [images], 1)[0][0]
    assert (len(ids), len(read)) == (65, 111)  # so it would be without the guard

    engine = Engine(load_processor(str(tiny["tiny"])))
    guarded = trainer("colocate", {"min_pixels": 50176}, llm=engine)
    read_as_scored(guarded, {"min_pixels": 50176})
    ids, images = prompt(guarded.processing_class)
    assert guarded.vllm_generation.generate([ids, ids], [images, images], 1)[0] == [ids, ids]
    picture = guarded.processing_class.image_token_id
    assert picture_lengths(engine.seen[0]["prompt_token_ids"], picture) == [1, 1]


def test_an_engine_that_scales_pictures_otherwise_ends_the_run(trainer, tiny):
    made = trainer("colocate", {"min_pixels": 50176}, llm=Engine(load_processor(str(tiny["tiny"]))))
    read_as_scored(made, {})
    ids, images = prompt(made.processing_class)
    with pytest.raises(TrainingError, match=r"use_vllm: vLLM read a prompt as 65 tokens.*\[24, 24"):
        made.vllm_generation.generate([ids], [images], 1)


def test_a_server_gets_only_pictures_of_the_right_length(trainer):
    server = Server([24, 24])
    made = trainer("server", vllm_client=server)
    read_as_scored(made, {})
    ids, images = prompt(made.processing_class)
    made.vllm_generation.generate([ids, ids], [images, images], 2)
    starts = [place["offset"] for place in server.sent[0]]
    assert [ids[start] for start in starts] == [made.processing_class.image_token_id] * 2
    server.lengths = [24, 70]
    with pytest.raises(TrainingError, match=r"pictures of \[24, 70\] tokens .* scores \[24, 24\]"):
        made.vllm_generation.generate([ids, ids], [images, images], 2)
    assert len(server.sent) == 1

"""Models: loading what is right, refusing what is wrong, and the tiny ones built on the spot."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import pytest

from star_tvr.scenes.errors import ConfigError
from star_tvr.schemas.config import load_config
from star_tvr.training.config import TINY, Lora
from star_tvr.training.errors import TrainingError
from star_tvr.training.models import (
    check_model,
    language_layers,
    load_adapter,
    load_model,
    load_processor,
    lora_config,
)
from star_tvr.training.tiny_models import build_tiny, train_tokenizer

WORLD = load_config("trance").world


def digest(folder) -> str:
    return hashlib.sha256(
        b"".join(p.name.encode() + p.read_bytes() for p in sorted(folder.iterdir()))
    ).hexdigest()


def test_every_triplet_survives_the_tokenizer():
    tokenizer = train_tokenizer(WORLD)
    for attribute in ("color", "shape", "size", "material", "position"):
        for value in WORLD.values(attribute):
            for index in (0, 7, 12):
                text = f"{index}.{attribute}.{value}"
                tokens = tokenizer.encode(text)
                assert tokenizer.decode(tokens.ids) == text
                if attribute != "position" and index < 10:
                    assert len(tokens.ids) == 3
    for text in ("Größe: 3 × 4\n\n  ✓", "<think>\n</think> <answer>0.size.small</answer>", "\t"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_tags_are_never_skipped_in_decoding(tiny):
    for folder in tiny.values():
        tokenizer = load_processor(str(folder)).tokenizer
        text = "<think>one cube</think><answer>2.color.cyan</answer>"
        ids = tokenizer(text + tokenizer.eos_token).input_ids
        assert ids[0] == tokenizer.convert_tokens_to_ids("<think>")
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_a_word_that_a_user_adds_is_learned():
    world = load_config("star", ["world.colors.orange-red=[255, 69, 0]"]).world
    tokenizer = train_tokenizer(world)
    assert tokenizer.encode("0.color.orange-red").tokens[-1] == ".orange-red"


@pytest.mark.parametrize("family", TINY)
def test_tiny_models_are_the_same_in_every_process(family, tiny, dataset, tmp_path):
    code = (
        "import sys; from pathlib import Path; from training.tiny_models import build_tiny;"
        "from schemas.dataset import Dataset;"
        "build_tiny(sys.argv[1], Path(sys.argv[2]), Dataset.open(sys.argv[3]).world, seed=1)"
    )
    arguments = [family, str(tmp_path / "again"), str(dataset.root)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    assert digest(tmp_path / "again") == digest(tiny[family])
    other = build_tiny(family, tmp_path / "other", dataset.world, seed=2)
    assert digest(other) != digest(tiny[family])


@pytest.mark.parametrize("family", TINY)
def test_two_images_become_two_runs_of_image_tokens(family, tiny):
    from PIL import Image

    processor = load_processor(str(tiny[family]))
    images = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    parts = [{"type": "image", "image": image} for image in images]
    message = [{"role": "user", "content": [*parts, {"type": "text", "text": "0 small"}]}]
    inputs = processor.apply_chat_template(
        message, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    token = processor.tokenizer.decode([load_model(str(tiny[family])).config.image_token_id])
    assert len(re.findall(f"(?:{re.escape(token)})+", text)) == 2
    assert text.endswith("0 small<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("family", TINY)
def test_the_default_adapters_leave_the_vision_tower_alone(family, tiny):
    from peft import get_peft_model

    model = load_model(str(tiny[family]))
    pattern = language_layers(model)
    hit = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    assert len(hit) == 7 * model.config.text_config.num_hidden_layers  # projections x layers
    adapted = get_peft_model(model, lora_config(model, Lora(r=2)))
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name and "vision" not in name for name in trained)
    assert not any("visual" in name for name in trained)


def test_lora_targets(tiny):
    model = load_model(str(tiny["tiny"]))
    assert lora_config(model, Lora(targets=("q_proj",))).target_modules == {"q_proj"}
    assert lora_config(model, Lora(targets="all-linear")).target_modules == "all-linear"
    with pytest.raises(ConfigError, match="lora.targets: .*w_proj.* matches no layer"):
        lora_config(model, Lora(targets=("w_proj",)))


def test_a_tokenizer_alone_is_refused(tiny, tmp_path):
    shutil.copytree(tiny["tiny-idefics3"], tmp_path / "model")
    (tmp_path / "model" / "processor_config.json").unlink()
    with pytest.raises(TrainingError, match="processor"):
        load_processor(str(tmp_path / "model"))


def test_models_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match="neither a folder nor a model in the local cache"):
        check_model("nobody/nothing-7B")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="there is no config.json in it"):
        check_model(str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="huge is not a tiny model"):
        build_tiny("huge", tmp_path / "x", WORLD)


def test_a_text_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ConfigError, match="of type llama, which does not read images"):
        check_model(str(tmp_path))


def test_damaged_weights_are_named(tiny, tmp_path):
    folder = shutil.copytree(tiny["tiny"], tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="the weights of .*model") as info:
        load_model(str(folder))
    assert "\n" not in str(info.value)


def test_an_adapter_that_is_not_there(tiny, tmp_path):
    with pytest.raises(TrainingError, match="adapter: .* is not an adapter folder"):
        load_adapter(load_model(str(tiny["tiny"])), str(tmp_path), trainable=False)

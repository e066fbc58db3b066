"""Models: loading what is right, refusing what is wrong, and the tiny ones built on the spot."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from star_tvr.scenes.errors import ConfigError
from star_tvr.schemas.config import load_config
from star_tvr.training.config import TINY, Lora
from star_tvr.training.errors import ModelError, TrainingError
from star_tvr.training.models import (
    check_model,
    language_layers,
    load_adapter,
    load_model,
    load_processor,
    lora_config,
)
from star_tvr.training.tiny_models import build_tiny, train_tokenizer
from star_tvr.training.weights import refuse_other_tokenizer
from tests.generator.command import tvr

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


PUBLISHED = {
    "processor_class": "Qwen2_5_VLProcessor",
    "image_processor_type": "Qwen2VLImageProcessor",
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
"""The preprocessor_config.json of the published Qwen2.5-VL, for pictures and videos alike."""

VIDEO = {"video_processor_type": "Qwen2VLVideoProcessor", "max_frames": 99, "patch_size": 14}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("preprocessor_config.json", PUBLISHED, PUBLISHED),
        ("video_preprocessor_config.json", VIDEO, VIDEO),  # as that of Qwen3-VL
        ("processor_config.json", {"video_processor": VIDEO}, VIDEO),  # as transformers 5 stores it
        ("processor_config.json", {}, None),  # as it was stored here before
    ],
    ids=["image", "video", "nested", "none"],
)
def test_the_video_settings_of_a_model_stay_with_it(tiny, tmp_path, name, content, expected):
    base = shutil.copytree(tiny["tiny"], tmp_path / "base")
    (base / "video_preprocessor_config.json").unlink()
    stored = json.loads((base / "processor_config.json").read_text())
    if name == "preprocessor_config.json":  # the published one has no other
        (base / "processor_config.json").unlink()
    else:
        content = {**stored, **content} if name == "processor_config.json" else content
    (base / name).write_text(json.dumps(content))
    processor = load_processor(str(base), {"max_pixels": 50176})
    processor.save_pretrained(tmp_path / "trained")
    written = json.loads((tmp_path / "trained" / "video_preprocessor_config.json").read_text())
    if expected is None:
        expected = json.loads(processor.image_processor.to_json_string())
    assert written == expected
    shutil.copy(base / "config.json", tmp_path / "trained")
    again = load_processor(str(tmp_path / "trained"))
    assert again.video_settings == expected
    assert again.image_processor.size["longest_edge"] == 50176


def test_the_video_settings_of_a_tiny_model_name_a_class(tiny):
    """Beside an adapter there is no config.json from which it could be told."""
    written = json.loads((tiny["tiny"] / "video_preprocessor_config.json").read_text())
    assert written["image_processor_type"] == "Qwen2VLImageProcessor"
    assert not (tiny["tiny-idefics3"] / "video_preprocessor_config.json").exists()


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


# --- Folders that were tampered with -------------------------------------------------------------


@pytest.fixture
def copy(tiny, tmp_path):
    """A copy of the tiny model that a test may change."""
    return shutil.copytree(tiny["tiny"], tmp_path / "model")


def change_weights(file, change):
    """Write a file of weights again, changed."""
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})


def rename_all(weights):
    for name in list(weights):
        weights[f"other.{name}"] = weights.pop(name)


def drop_half(weights):
    for name in sorted(weights)[::2]:
        del weights[name]


def add_one(weights):
    weights["model.extra.weight"] = torch.zeros(2)


def reshape_one(weights):
    weights["lm_head.weight"] = weights["lm_head.weight"][:-1].clone()


def spoil_one(weights):
    weights["lm_head.weight"][3, 4] = torch.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_all, "57 of the weights are missing, such as lm_head.weight; .*get them again"),
        (drop_half, "29 of the weights are missing, such as lm_head.weight"),
        (add_one, "1 of the weights are unknown to the model, such as .*extra.weight"),
        (reshape_one, r"1 of the weights are of another shape, such as lm_head.weight \([0-9]+ x"),
        (spoil_one, "lm_head.weight holds NaN or infinity"),
        (dict.clear, "weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused(copy, change, message):
    change_weights(copy / "model.safetensors", change)
    with pytest.raises(ModelError, match=f"the weights of {copy}: .*{message}") as info:
        load_model(str(copy))
    assert "\n" not in str(info.value) and info.value.exit_status == 2


def test_tied_weights_are_not_missing(dataset, tmp_path):
    folder = build_tiny("tiny-64", tmp_path / "tied", dataset.world)
    model = load_model(str(folder))
    model.config.text_config.tie_word_embeddings = model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    tied = load_model(str(folder))
    assert tied.lm_head.weight is tied.get_input_embeddings().weight


@pytest.fixture
def adapter(tiny, tmp_path):
    """The folder of an adapter for the tiny model, which changes what it says."""
    from peft import get_peft_model

    model = load_model(str(tiny["tiny"]))
    adapted = get_peft_model(model, lora_config(model, Lora(r=2)))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(weight)
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def change_config(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_adapter_is_loaded_as_it_was_stored(tiny, adapter):
    for trainable in (True, False):
        model = load_adapter(load_model(str(tiny["tiny"])), str(adapter), trainable)
        for name, weight in model.named_parameters():
            assert weight.requires_grad == (trainable and "lora_" in name)
            assert "lora_B" not in name or (weight == 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict.clear, "28 of the weights are missing"),
        (drop_half, "14 of the weights are missing"),
        (rename_all, "28 of the weights are missing"),
        (
            lambda w: w.update({"base_model.model.x.lora_A.weight": torch.ones(2)}),
            "1 .* unknown to",
        ),
        (lambda w: w[min(w)].fill_(torch.inf), "holds NaN or infinity"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(tiny, adapter, change, message):
    change_weights(adapter / "adapter_model.safetensors", change)
    with pytest.raises(ModelError, match=f"adapter: {adapter}: .*{message}"):
        load_adapter(load_model(str(tiny["tiny"])), str(adapter), trainable=False)


@pytest.mark.parametrize(
    "values",
    [
        {"peft_type": "IA3", "feedforward_modules": []},
        {"peft_type": "nonsense"},
        {"megatron_config": {"a": 1}, "megatron_core": "evil"},
        {"r": 0},
        {"r": "two"},
        {"target_modules": "("},
        {"target_modules": ["nothing"]},
        {"target_modules": None},
    ],
)
def test_adapter_configurations_that_make_no_sense_are_refused(tiny, adapter, values):
    change_config(adapter, **values)
    with pytest.raises(ModelError, match=f"adapter: {adapter}: ") as info:
        load_adapter(load_model(str(tiny["tiny"])), str(adapter), trainable=False)
    assert "\n" not in str(info.value)


def test_an_adapter_of_another_model_is_refused(tiny, adapter):
    with pytest.raises(ModelError, match=f"adapter: {adapter}: "):
        load_adapter(load_model(str(tiny["small-64"])), str(adapter), trainable=False)


def test_pickles_are_refused(copy, adapter, tiny):
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    check_model(str(copy))
    (copy / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="pytorch_model.bin: is a pickle, which can hold code"):
        check_model(str(copy))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="adapter_model.bin is a pickle"):
        load_adapter(load_model(str(tiny["tiny"])), str(adapter), trainable=False)


def test_a_pipe_is_refused_at_once(copy):
    (copy / "model.safetensors").unlink()
    os.mkfifo(copy / "model.safetensors")
    with pytest.raises(ConfigError, match="model.safetensors: cannot be read .it is no ordinary"):
        check_model(str(copy))


def test_an_adapter_is_no_model(tiny, adapter, copy):
    shutil.copy(adapter / "adapter_config.json", copy)
    with pytest.raises(ConfigError, match="holds an adapter .adapter_config.json.; name it as"):
        check_model(str(copy))


EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor, Qwen2_5_VLForConditionalGeneration
"""


def bring_code(folder, known):
    """Let every file of a model ask for code beside it; `known` says whether the type is known."""
    (folder / "evil.py").write_text(EVIL)
    classes = {
        "AutoConfig": "evil.Qwen2_5_VLConfig",
        "AutoProcessor": "evil.Qwen2_5_VLProcessor",
        "AutoModelForImageTextToText": "evil.Qwen2_5_VLForConditionalGeneration",
    }
    for path in folder.glob("*config.json"):
        document = json.loads(path.read_text()) | {"auto_map": classes}
        if not known and path.name == "config.json":
            document["model_type"] = "evil"
        path.write_text(json.dumps(document))


def evaluate(dataset, model, out, *arguments, answer="y\n" * 20):
    command = ["evaluate", dataset.root, "--split", "cross-view/test_id", "--model", model]
    command += ["--out", out, "--max-new-tokens", "2", "--device", "cpu", *arguments]
    return tvr(*command, input=answer, timeout=200)


@pytest.mark.parametrize("known", [True, False])
def test_a_model_runs_no_code_and_asks_nothing(dataset, copy, tmp_path, known):
    bring_code(copy, known)
    done = evaluate(dataset, copy, tmp_path / "out")
    assert done.returncode == (0 if known else 2), done.stderr
    assert known or re.fullmatch(
        "error: model: .* needs code of its own .*never run.*\n", done.stderr
    )
    assert not list(tmp_path.rglob("ran")) and "[y/N]" not in done.stdout + done.stderr


def test_a_configuration_beside_a_model_allows_no_code(dataset, copy, tmp_path):
    bring_code(copy, known=True)
    (copy / "config.yaml").write_text("processor: {trust_remote_code: true}\n")
    done = evaluate(dataset, copy, tmp_path / "out")
    assert done.returncode == 2
    assert f"{copy}/config.yaml: processor.trust_remote_code: " in done.stderr
    assert not list(tmp_path.rglob("ran"))


# --- Processors ----------------------------------------------------------------------------------


def write_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def lose_template(folder):
    (folder / "chat_template.jinja").unlink()


def break_template(folder):
    (folder / "chat_template.jinja").write_text("{% for %}")


def blind_template(folder):
    (folder / "chat_template.jinja").write_text("{{ messages[0]['role'] }}")


def empty_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")


def no_tokenizer(folder):
    (folder / "tokenizer.json").write_text("[1, 2")


@pytest.mark.parametrize(
    "change", [lose_template, break_template, blind_template, empty_tokenizer, no_tokenizer]
)
def test_processors_that_make_no_sense_are_refused(copy, change):
    change(copy)
    with pytest.raises(ModelError, match=f"model: .*{copy}.* get (it|these files) again") as info:
        load_processor(str(copy))
    assert "\n" not in str(info.value)


def test_a_tokenizer_of_another_model_is_refused(tiny, copy, dataset, tmp_path):
    model = load_model(str(copy))
    processor = load_processor(str(copy))
    refuse_other_tokenizer("model", processor, model)
    processor.tokenizer.add_tokens([f"<new-{k}>" for k in range(9)])
    with pytest.raises(ModelError, match="the tokenizer has tokens up to .*, the model knows"):
        refuse_other_tokenizer("model", processor, model)
    model.config.image_token_id += 1
    with pytest.raises(ModelError, match="the tokenizer marks pictures with token"):
        refuse_other_tokenizer("model", load_processor(str(copy)), model)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"model_type": 3}',
        '{"model_type": "qwen2_5_vl", "text_config": {"num_attention_heads": 0}}',
        '{"model_type": "qwen2_5_vl", "vision_config": 1}',
    ],
)
def test_configurations_of_models_that_make_no_sense_are_refused(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises((ConfigError, ModelError), match=f"model: .*{copy}") as info:
        check_model(str(copy))
        load_processor(str(copy))
        load_model(str(copy))
    assert "\n" not in str(info.value)

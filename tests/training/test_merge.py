"""Merging an adapter: the same model as adapter on base, in a folder that opens anywhere."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]
from PIL import Image
from safetensors.torch import load_file, save_file

from star_tvr.scenes.errors import ConfigError
from star_tvr.training import sft
from star_tvr.training.merge import merge
from star_tvr.training.models import load_adapter, load_model, load_processor
from star_tvr.training.run_folder import stored_input
from star_tvr.training.seen_scenes import seen_scenes
from tests.generator.command import refused, tvr
from tests.training.conftest import write_document


@pytest.fixture(scope="module")
def run(tiny, dataset, tmp_path_factory):
    """A run that trained an adapter, whose weights are made large enough to tell."""
    root = tmp_path_factory.mktemp("merge")
    values = {
        "model": str(tiny["tiny"]),
        "output_dir": str(root / "run"),
        "lora": {"r": 4},
        "processor": {"max_pixels": 50176},
        "max_steps": 1,
        "save_steps": 1,
        "per_device_train_batch_size": 1,
    }
    folder = sft.run(write_document(root / "run.yaml", dataset, values))
    for place in (folder, folder / "checkpoint-1"):
        path = place / "adapter_model.safetensors"
        generator = torch.Generator().manual_seed(5)
        weights = load_file(path)
        save_file({k: torch.randn(w.shape, generator=generator) for k, w in weights.items()}, path)
    return folder


@pytest.fixture(scope="module")
def merged(run):
    return merge(run, run.parent / "merged")


def logits(model, processor):
    images = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    parts = [{"type": "image", "image": image} for image in images]
    message = [{"role": "user", "content": [*parts, {"type": "text", "text": "0 small"}]}]
    inputs = processor.apply_chat_template(
        message, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    with torch.no_grad():
        return model.eval()(**inputs).logits


def test_a_merged_model_is_the_adapter_on_its_base(run, merged, tiny):
    processor = load_processor(str(merged))
    found = logits(load_model(str(merged)), processor)
    base = load_model(str(tiny["tiny"]))
    plain = logits(base, processor)
    adapted = logits(load_adapter(base, str(run), trainable=False), processor)
    assert (found - adapted).abs().max() < 1e-4 * adapted.abs().max()
    assert (found - plain).abs().max() > 0.1 * adapted.abs().max()


PROCESSOR = {"processor_config.json", "video_preprocessor_config.json", "chat_template.jinja"}


def test_every_folder_of_a_run_has_a_whole_processor(run, merged):
    for folder in (run, run / "checkpoint-1", merged):
        assert {p.name for p in folder.iterdir()} > PROCESSOR


def test_plain_transformers_opens_every_folder_of_a_run(run, merged, tiny):
    pytest.importorskip("torchvision", reason="without it, transformers reads no Qwen2.5-VL")
    from transformers import AutoProcessor

    ours = load_processor(str(merged))
    for folder in (tiny["tiny"], run, run / "checkpoint-1", merged):
        plain = AutoProcessor.from_pretrained(folder)
        assert plain.video_processor.patch_size == plain.image_processor.patch_size == 14
        assert plain.chat_template == ours.chat_template
        if folder != tiny["tiny"]:
            assert plain.image_processor.size == ours.image_processor.size


def test_what_a_merged_model_was_asked_and_on_what_stays_beside_it(run, merged):
    assert stored_input(str(merged)) == stored_input(str(run))
    assert seen_scenes([str(merged)]) == seen_scenes([str(run)])
    assert load_processor(str(merged)).image_processor.size["longest_edge"] == 50176


def test_the_command_merges_a_checkpoint_as_well(run, merged, tmp_path):
    out = tmp_path / "of-checkpoint"
    done = tvr("merge", run / "checkpoint-1", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}\n", "")
    first, second = (load_file(f / "model.safetensors") for f in (merged, out))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_base_that_has_moved_is_named(run, tiny, tmp_path):
    moved = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    record = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps({**record, "model": "/no/such/base"}))
    with pytest.raises(ConfigError, match="model: /no/such/base is neither a folder nor"):
        merge(moved, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))
    merge(moved, tmp_path / "out", model=str(tiny["tiny"]))
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_what_cannot_be_merged(run, merged, tiny, tmp_path):
    assert refused("merge", merged, tmp_path / "o").startswith(
        f"error: {merged}: all weights were trained, so it is a model already; use it as it is"
    )
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(run / "run.json", unfinished)
    for folder, message in (
        (tmp_path / "none", "is not a folder"),
        (tmp_path, "is not the folder of a run .there is no adapter_config.json in it.$"),
        (unfinished, "is not finished .there is no adapter_config.json in it.$"),
        (run.parent, "; name run in it$"),
    ):
        with pytest.raises(ConfigError, match=message):
            merge(folder, tmp_path / "o")
    with pytest.raises(ConfigError, match="is not empty; name another folder"):
        merge(run, tiny["tiny"])
    assert not (tmp_path / "o").exists()


def test_what_a_killed_merge_left_is_no_hindrance(run, merged, tmp_path):
    draft = tmp_path / ".out.tvr-draft"
    draft.mkdir()
    (draft / "model.safetensors").write_bytes(b"half")
    merge(run, tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in merged.iterdir()}


def test_what_is_shared_of_a_run_is_the_adapter_with_its_processor(run):
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    patterns = re.findall(r"--exclude '?([^ '\n]+)'?", page)
    files = [str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()]
    files += ["base/model.safetensors", "completions/completions_00001.parquet", "runs/a/events"]
    assert {"log.jsonl", "training_args.bin", "checkpoint-1/optimizer.pt"} <= set(files)
    assert set(filter_repo_objects(files, ignore_patterns=patterns)) == {
        *("adapter_config.json", "adapter_model.safetensors", "config.yaml", "run.json"),
        *("README.md", "tokenizer.json", "tokenizer_config.json", *PROCESSOR),
    }

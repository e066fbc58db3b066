"""A small, right instance of every kind of file that is read. Nothing is rendered: no Blender."""

import json
import re
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from star_tvr.commands.options import parse_split
from star_tvr.generator import splits
from star_tvr.generator.labels import image_labels
from star_tvr.generator.plan_files import plan_line
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.schemas.card import BlindBaseline
from star_tvr.schemas.dataset import Dataset, Manifest, commit_sample, dumps, dumps_line, sample_id
from star_tvr.schemas.folders import LOCK
from star_tvr.schemas.pictures import encode_mask, encode_png
from star_tvr.schemas.records import Sample
from star_tvr.training.blind import write_blind
from tests.training.discs import HEIGHT, RENDER, WIDTH, draw, make_config

SAMPLES = 4
SPLIT = "cross-view/test_ood"
ANSWER = "<think>so</think><answer>0.color.red</answer>"
SECRET = "a file that nobody was asked to read"


def make_originals(root: Path, names: Collection[str]) -> None:
    """Write what is asked for into `root`, each under its name, and `outside/` and `data/`."""
    (root / "outside").mkdir(parents=True)
    (root / "outside" / "secret.txt").write_text(SECRET)
    data = _data(root / "data")
    shutil.copy(data.folder("000000") / "initial-center.png", root / "outside" / "secret.png")
    for name, make in MAKERS.items():
        if {name, *NEEDED_BY.get(name, ())} & set(names):
            make(root / name, data)


def _data(root: Path) -> Dataset:
    """Samples with masks, depth and normals; the splits of one scheme, and a file of plans."""
    config = make_config("star", [f"num_samples={SAMPLES}", "depth=true", "normals=true"])
    sampler = Sampler.from_config(config)
    (root / "plans").mkdir(parents=True)
    (root / "dataset.json").write_text(dumps(Manifest.of(config, {"blender": "4.5.0"}).to_json()))
    for index in range(SAMPLES):
        commit_sample(root, sample_id(index), _sample_files(sampler, index))
    lines = [plan_line(sampler, index) for index in range(SAMPLES)]
    (root / "plans" / "00000.jsonl").write_text("".join(lines))
    data = Dataset.open(root)
    options = parse_split("cross-view", 0, None, None, None, None, None)
    division = splits.divide(splits.read_scenes(data), data.world, options, str(root))
    splits.write(data, division, False)
    chance = {"right": 0.5, "low": 0.4, "high": 0.6, "chance": 0.5, "asked": 2}
    question = {"question": "count", "title": "how many objects change", **chance}
    found = BlindBaseline.parse({"samples": SAMPLES, "questions": [question]}, "blind.json")
    write_blind(data, found)
    (root / LOCK).write_text("elsewhere 1 tvr render data\n")  # left by one that was killed
    return data


def _sample_files(sampler: Sampler, index: int) -> dict[str, bytes]:
    """The files of a sample; masks are outlines computed from the geometry, so labels are right."""
    plan, world = sampler.plan(index), sampler.world
    files: dict[str, bytes] = {}
    images = []
    for state_name, name in plan.views:
        state, camera = plan.state(state_name, world), plan.cameras[name]
        objects = visible_objects(state, world)
        ids = rasterize(objects, camera, world, WIDTH, HEIGHT).ids
        mask = np.array([0, *(o.index + 1 for o in objects)], np.uint8)[ids + 1]
        image = image_labels(mask, state_name, state, name, camera, world, True)
        stem = f"{state_name}-{name}"
        image = replace(
            image, depth=f"{stem}.depth.png", depth_scale=0.001, normals=f"{stem}.normals.png"
        )
        files[image.path] = encode_png(np.asarray(draw(plan, world, state_name, name)[0]))
        files[f"{stem}.mask.png"] = encode_mask(mask)
        steps = np.zeros(mask.shape, np.uint16)
        for o in image.objects:
            steps[mask == o.index + 1] = round(o.depth * 1000)
        files[f"{stem}.depth.png"] = encode_png(steps)
        files[f"{stem}.normals.png"] = encode_png(np.repeat(mask[..., None], 3, axis=-1))
        images.append(image)
    files["sample.json"] = dumps(Sample(plan, tuple(images), RENDER).to_json(world)).encode()
    return files


def _plans(path: Path, data: Dataset) -> None:
    shutil.copy(data.root / "plans" / "00000.jsonl", path)


def _predictions(path: Path, data: Dataset) -> None:
    lines = [{**pair.to_json(), "completion": ANSWER} for pair in data.split(SPLIT)]
    path.write_text("".join(map(dumps_line, lines)))


def _config(path: Path, data: Dataset) -> None:
    """Every key of a configuration."""
    _write_yaml(path, make_config("star", ["num_samples=1"]).to_json())


def _write_yaml(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def _training(path: Path, data: Dataset) -> None:
    """A training configuration with every key of ours, and some of TRL's."""
    from star_tvr.training.config import load_train_config

    kind = path.stem
    document: dict[str, Any] = {
        **{"model": "model", "dataset": "data", "split": "cross-view/train", "output_dir": "run"},
        **{"prompt": {"style": "compact", "location": "cell"}, "use_cpu": True, "max_steps": 1},
        **{"report_to": "none", "seed": 3, "per_device_train_batch_size": 2, "lora": {"r": 2}},
        **({"num_generations": 2, "max_completion_length": 4} if kind == "grpo" else {}),
    }
    _write_yaml(path, document)
    _write_yaml(path, load_train_config("grpo" if kind == "grpo" else "sft", path).to_json())


def _trance_hdf5(path: Path, data: Dataset) -> None:
    from tests.generator.test_import_trance import documents, write_hdf5

    write_hdf5(path, documents()[1:3], (("train", 1), ("test", 1)))


def _trance_json(path: Path, data: Dataset) -> None:
    from tests.generator.test_import_trance import documents, full, write_json

    write_json(path, [full(document) for document in documents()[1:3]])


def _trance_jsonl(path: Path, data: Dataset) -> None:
    from tests.generator.test_import_trance import documents, write_jsonl

    write_jsonl(path, documents()[1:3])


def _parquet(path: Path, data: Dataset) -> None:
    from star_tvr.training.exports.export_dataset import export_dataset

    for _ in export_dataset(data, path, "parquet"):
        pass


def _exr(path: Path, data: Dataset) -> None:
    """A frame as Blender writes it, but for its colours."""
    import OpenEXR

    shape = (HEIGHT, WIDTH)
    names = ("Combined.R", "Combined.G", "Combined.B", "Depth.Z", "Object Index.X")
    channels = {f"ViewLayer.{n}": np.ones(shape, np.float32) * k for k, n in enumerate(names)}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))


def _model(path: Path, data: Dataset) -> None:
    from star_tvr.training.tiny_models import build_tiny

    build_tiny("tiny", path, data.world, seed=1)


def _adapter(path: Path, data: Dataset) -> None:
    import torch
    from peft import get_peft_model

    from star_tvr.training.config import Lora
    from star_tvr.training.models import load_model, lora_config

    torch.manual_seed(1)
    model = load_model(str(path.parent / "model"))
    get_peft_model(model, lora_config(model, Lora(r=2))).save_pretrained(path)


def _run(path: Path, data: Dataset) -> None:
    """A finished training of one step with its log and a checkpoint, and an evaluation."""
    from star_tvr.training import evaluate, sft
    from star_tvr.training.backends import Decoding
    from star_tvr.training.local_backend import LocalModel

    sft.run(str(path.parent / "sft.yaml"), [])
    log = path / "log.jsonl"  # without times: inputs are made from the same bytes on every machine
    log.write_text(re.sub(r'("train_\w+(?:time|second)": )[0-9.]+', r"\g<1>1.5", log.read_text()))
    model = LocalModel("model", "run", device="cpu")
    session = evaluate.prepare("data", SPLIT, model, path / "ood", Decoding(max_new_tokens=4))
    for _ in session.answers():
        pass
    session.score()


def _logged(path: Path, data: Dataset) -> None:
    """A run of which there is its log, and what TRL logs of the answers while it trains."""
    import pyarrow
    from pyarrow import parquet

    line = {"step": 1, "completion": ANSWER, "truth": "0.color.red", "advantage": 0.5}
    rows = [{**line, **pair.to_json()} for pair in data.split(SPLIT)]
    (path / "completions").mkdir(parents=True)
    (path / "log.jsonl").write_text(dumps_line({"step": 1, "loss": 0.5, "reward": 1.5}))
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, path / "completions" / "completions_00001.parquet")


def _reply(path: Path, data: Dataset) -> None:
    """What a server sends, head and body."""
    choice = {"index": 0, "finish_reason": "stop"}
    message = {"role": "assistant", "content": ANSWER, "reasoning_content": "so"}
    path.write_bytes(
        http_reply({"id": "1", "model": "m", "choices": [{**choice, "message": message}]})
    )


def http_reply(body: Any, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP response; `body` is a document, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", *headers]
    head = "\r\n".join([*lines, f"content-length: {len(content)}", "connection: close", "", ""])
    return head.encode() + content


MAKERS = {
    "plans.jsonl": _plans,
    "predictions.jsonl": _predictions,
    "config.yaml": _config,
    "reply.http": _reply,
    "depth.exr": _exr,
    "trance-hdf5": _trance_hdf5,
    "trance-json": _trance_json,
    "trance-jsonl": _trance_jsonl,
    "parquet": _parquet,
    "model": _model,
    "adapter": _adapter,
    "sft.yaml": _training,
    "grpo.yaml": _training,
    "run": _run,
    "logged": _logged,
}
"""What makes each, in an order in which all that one needs is there."""

NEEDED_BY = {"model": ("adapter", "sft.yaml", "grpo.yaml", "run"), "sft.yaml": ("run",)}

"""A small valid data set whose pictures are plain discs, and tiny models to train on it."""

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pictures
from PIL import ImageDraw

from scenes.relations import relations
from scenes.sampler import Sampler
from scenes.states import visible_objects
from schemas.config import load_config
from schemas.dataset import Dataset, commit_sample, dumps, manifest, sample_id
from schemas.records import Image, ObjectView, Pair, Sample
from training.models import build_tiny

WIDTH, HEIGHT = 64, 48
TRAIN, TEST = 6, 2
RENDER = {
    "engine": "discs",
    "device": "cpu",
    "samples": 1,
    "denoiser": None,
    "blender": "none",
    "seconds": 0.0,
}


def background(sample: str, state: str, camera: str) -> tuple[int, int, int]:
    """A colour that tells a picture from every other one of the data set."""
    cameras = ("center", "left", "right")
    return (30 * int(sample), 255 if state == "initial" else 0, 100 * cameras.index(camera))


def draw(plan, world, state, camera_name):
    """A picture of a state as discs on a background of its own, and its labels."""
    camera = plan.cameras[camera_name]
    objects = visible_objects(plan.initial if state == "initial" else plan.final, world)
    projected = camera.project(np.array([o.center(world) for o in objects]), WIDTH, HEIGHT)
    picture = Pictures.new("RGB", (WIDTH, HEIGHT), background(plan.id, state, camera_name))
    canvas = ImageDraw.Draw(picture)
    focal = camera.intrinsics(WIDTH, HEIGHT)[0, 0]
    for k in np.argsort(-projected[:, 2]):
        u, v, depth = projected[k]
        r = 0.6 * focal * objects[k].radius(world) / depth
        canvas.ellipse((u - r, v - r, u + r, v + r), fill=world.colors[objects[k].color])
    views = tuple(
        ObjectView(o.index, None, 0, 1.0, (float(u), float(v)), float(depth))
        for o, (u, v, depth) in zip(objects, projected, strict=True)
    )
    name = f"{state}-{camera_name}.png"
    table = relations(objects, camera)
    return picture, Image(state, camera_name, name, None, WIDTH, HEIGHT, views, table)


def make_dataset(root: Path, overrides=()) -> Dataset:
    """A data set of TRAIN + TEST samples with the splits train, test_id and test_ood."""
    config = load_config(
        "star",
        [
            f"num_samples={TRAIN + TEST}",
            f"image.width={WIDTH}",
            f"image.height={HEIGHT}",
            "objects.visible=[2, 4]",
            "transformations.count=[1, 2]",
            "visibility.min_pixels=20",
            *overrides,
        ],
    )
    root.mkdir(parents=True)
    (root / "dataset.json").write_text(dumps(manifest(config, {})))
    sampler = Sampler.from_config(config)
    for index in range(TRAIN + TEST):
        plan = sampler.plan(index)
        drawn = [draw(plan, sampler.world, state, camera) for state, camera in plan.views]
        files = {}
        for picture, image in drawn:
            stream = io.BytesIO()
            picture.save(stream, "PNG")
            files[image.path] = stream.getvalue()
        sample = Sample(plan, tuple(image for _, image in drawn), RENDER)
        files["sample.json"] = dumps(sample.to_json(sampler.world)).encode()
        commit_sample(root, sample_id(index), files)
    dataset = Dataset.open(root)
    ids = dataset.ids()
    dataset.write_split("cross-view/train", [Pair(i, "center", "center") for i in ids[:TRAIN]])
    dataset.write_split("cross-view/test_id", [Pair(i, "center", "center") for i in ids[TRAIN:]])
    ood = [Pair(i, "center", camera) for i in ids[TRAIN:] for camera in ("left", "right")]
    dataset.write_split("cross-view/test_ood", ood)
    return dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Dataset:
    """The small data set; nobody writes to it."""
    return make_dataset(tmp_path_factory.mktemp("data") / "discs")


@pytest.fixture(scope="session", params=["tiny", "tiny-idefics3"])
def family(request) -> str:
    """Each family of tiny models."""
    return request.param


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, dataset) -> dict[str, Path]:
    """The folder of an untrained tiny model of each family."""
    root = tmp_path_factory.mktemp("models")
    return {
        name: build_tiny(name, root / name, dataset.world, seed=1)
        for name in ("tiny", "tiny-idefics3")
    }


@pytest.fixture
def write_config(tmp_path, dataset):
    """Write a training configuration for the small data set and return its path."""

    def write(name="config.yaml", **values) -> Path:
        document = {
            "model": "tiny",
            "dataset": str(dataset.root),
            "split": "cross-view/train",
            "output_dir": str(tmp_path / "run"),
            "prompt": {"style": "compact", "location": "cell"},
            "use_cpu": True,
            "report_to": "none",
            "seed": 3,
            **values,
        }
        path = tmp_path / name
        path.write_text(yaml.safe_dump({k: v for k, v in document.items() if v is not ...}))
        return path

    return write

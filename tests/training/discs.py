"""A small valid data set whose pictures are plain discs: enough to train on, drawn in no time.

The labels are those of the true outlines.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image as Pictures
from PIL import ImageDraw

from star_tvr.scenes.relations import relations
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import Dataset, Manifest, commit_sample, dumps, sample_id
from star_tvr.schemas.records import Image, ObjectView, Pair, Sample

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
    view = rasterize(objects, camera, world, WIDTH, HEIGHT)
    views = tuple(
        ObjectView(
            o.index,
            box(view.ids == k),
            int(view.pixels[k]),
            float(view.pixels[k] / max(1, view.unoccluded[k])),
            (float(u), float(v)),
            float(depth),
        )
        for k, (o, (u, v, depth)) in enumerate(zip(objects, projected, strict=True))
    )
    name = f"{state}-{camera_name}.png"
    table = relations(objects, camera)
    return picture, Image(state, camera_name, name, None, WIDTH, HEIGHT, views, table)


def box(mask):
    """(x0, y0, x1, y1) of the pixels of a mask, or None."""
    ys, xs = np.nonzero(mask)
    return (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1) if xs.size else None


def make_config(preset="star", overrides=()):
    """A configuration for small pictures with few objects."""
    return load_config(
        preset,
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


def make_sample(config, index: int) -> tuple[Sample, dict[str, bytes]]:
    """Sample `index` of a configuration, and its files."""
    sampler = Sampler.from_config(config)
    plan = sampler.plan(index)
    drawn = [draw(plan, sampler.world, state, camera) for state, camera in plan.views]
    files = {}
    for picture, image in drawn:
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        files[image.path] = stream.getvalue()
    sample = Sample(plan, tuple(image for _, image in drawn), RENDER)
    files["sample.json"] = dumps(sample.to_json(sampler.world)).encode()
    return sample, files


def make_dataset(root: Path, preset: str = "star") -> Dataset:
    """A data set of TRAIN + TEST samples with the splits train, test_id and test_ood."""
    config = make_config(preset)
    root.mkdir(parents=True)
    (root / "dataset.json").write_text(dumps(Manifest.of(config, {}).to_json()))
    for index in range(TRAIN + TEST):
        commit_sample(root, sample_id(index), make_sample(config, index)[1])
    dataset = Dataset.open(root)
    ids = dataset.ids()
    dataset.write_split("cross-view/train", [Pair(i, "center", "center") for i in ids[:TRAIN]])
    dataset.write_split("cross-view/test_id", [Pair(i, "center", "center") for i in ids[TRAIN:]])
    ood = [Pair(i, "center", camera) for i in ids[TRAIN:] for camera in ("left", "right")]
    dataset.write_split("cross-view/test_ood", ood)
    return dataset

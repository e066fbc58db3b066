"""Can all looks be told apart? The looks of unoccluded objects, read from their pixels.

Renders scenes whose objects hardly hide each other, from the cameras of a preset, and has a small
network guess the colour and material of every object of at least 300 pixels from a summary of its
pixels: quantiles of brightness and of chromaticity, and the size and shape of its outline; others
guess the shape and the size from the outline and where it is in the picture.
Five-fold cross-validation by frame, so that no frame is in training and test at once.

With `--scenes` the objects are those of data sets as they are, hidden by others or not. What is
guessed in the initial and in the final picture of a pair says whether an object looks changed in
color or material; the table says how often that is wrong.

python tests/benchmarks/bench_looks.py [--frames N] [--set KEY=VALUE]... [--looks FILE.npz]
python tests/benchmarks/bench_looks.py --scenes DATASET... [--worst PICTURE.png]
"""

import argparse
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from star_tvr.generator import blender
from star_tvr.generator.frames import render_frame
from star_tvr.generator.stage import Stage
from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.plan import Light
from star_tvr.scenes.seeds import stream
from star_tvr.scenes.states import SceneObject, State
from star_tvr.scenes.visibility import rasterize
from star_tvr.scenes.world import APPEARANCE, World
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import Dataset

LEAST_PIXELS = 300
LEAST_VISIBLE = 0.97
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
FOLDS = 5

Floats = NDArray[np.float64]


def layout(world: World, camera: Camera, rng: np.random.Generator, count: int = 8) -> State:
    """Of 40 random arrangements the one that shows most objects large and whole."""
    best: tuple[int, State] = (-1, ())
    for _ in range(40):
        objects: list[SceneObject] = []
        for _ in range(200):
            size = str(rng.choice(["small", "medium", "large"], p=[0.2, 0.4, 0.4]))
            x, y = rng.uniform(-3, 3, 2)
            radius = world.sizes[size]
            if all(
                np.hypot(o.x - x, o.y - y) > o.radius(world) + radius + world.gap for o in objects
            ):
                looks = {
                    a: str(rng.choice(world.values(a))) for a in ("shape", "color", "material")
                }
                turn = float(rng.uniform(0, 2 * np.pi))
                objects.append(
                    SceneObject(len(objects), size=size, x=x, y=y, rotation=turn, **looks)
                )
            if len(objects) == count:
                break
        state = tuple(objects)
        view = rasterize(state, camera, world, 320, 240)
        good = (view.pixels >= LEAST_PIXELS) & (view.pixels >= LEAST_VISIBLE * view.unoccluded)
        best = max(best, (int(good.sum()), state), key=lambda pair: pair[0])
    return best[1]


def features(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> Floats:
    """What is known of an object: quantiles of its pixels, and of those at its rim and middle."""
    pixels = (image[inside].astype(float) + 1) / 256
    light = pixels.sum(axis=1)
    chroma = pixels / light[:, None]
    saturation = pixels.max(axis=1) - pixels.min(axis=1)
    rows, columns = np.nonzero(inside)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    levels = (rows - rows.min()) / height
    bands = [pixels[(levels >= a) & (levels < a + 0.25)].mean(axis=0) for a in (0, 0.25, 0.5, 0.75)]
    spread = pixels[light >= np.quantile(light, 0.5)].std(axis=0)
    return np.concatenate(
        [
            *(np.quantile(pixels[:, c], QUANTILES) for c in range(3)),
            *(np.quantile(chroma[:, c], QUANTILES) for c in range(3)),
            np.quantile(saturation, QUANTILES),
            chroma[np.argsort(saturation)[-len(light) // 4 :]].mean(axis=0),
            *bands,
            spread,
            [np.log(inside.sum()), width / height, inside.sum() / (width * height)],
        ]
    )


def outline(inside: NDArray[np.bool_]) -> Floats:
    """What is known of a shape: how far it reaches in 36 directions, how large and where it is."""
    rows, columns = np.nonzero(inside)
    up, right = rows - rows.mean(), columns - columns.mean()
    direction = ((np.arctan2(up, right) + np.pi) / (2 * np.pi) * 36).astype(int) % 36
    reach = np.zeros(36)
    np.maximum.at(reach, direction, np.hypot(up, right))
    place = [rows.max(), rows.mean(), abs(columns.mean() - inside.shape[1] / 2)]
    return np.array([*reach / np.sqrt(len(rows)), np.log(len(rows)), *place])


def collect(config: DatasetConfig, frames: int) -> dict[str, NDArray[Any]]:
    """What is seen of n objects and what they are.

    `rows` (n, f) and `outlines` (n, g): features; `labels` (n, 4): the number of the value of every
    attribute of `APPEARANCE`; `frames` (n,).
    """
    world = config.world
    stage = Stage(config)
    found: dict[str, list[Any]] = {"rows": [], "outlines": [], "labels": [], "frames": []}
    names = config.cameras.final
    for number in range(frames):
        rng = stream(0, "looks", number)
        place = np.array(config.cameras.named[names[number % len(names)]].position)
        camera = Camera(tuple(place + rng.uniform(-0.5, 0.5, 3)))
        lamps = config.lights.lamps
        stage.light(
            {
                name: Light(
                    tuple(np.array(v.position) + rng.uniform(-1, 1, 3)),
                    v.color,
                    v.size,
                    v.power,
                )
                for name, v in lamps.items()
            }
        )
        state = layout(world, camera, rng)
        stage.seed(number)
        stage.point_camera(camera)
        stage.show(state)
        frame = render_frame(stage)
        view = rasterize(state, camera, world, *stage.size)
        for obj, alone in zip(state, view.unoccluded, strict=True):
            inside = frame.mask == obj.index + 1
            if inside.sum() >= max(LEAST_PIXELS, LEAST_VISIBLE * alone):
                found["rows"].append(features(frame.image, inside))
                found["outlines"].append(outline(inside))
                found["labels"].append([world.values(a).index(getattr(obj, a)) for a in APPEARANCE])
                found["frames"].append(number)
    return {key: np.array(values) for key, values in found.items()}


def collect_scenes(datasets: list[Path]) -> dict[str, NDArray[Any]]:
    """The same of objects in the pictures of data sets, at least `min_pixels` of them visible.

    Also `objects` (n,), `final` (n,): whether the state is the final one, `cameras` (n,),
    `shown` (n,): visible share, and `crops` (n, 96, 96, 3): the object and what is around it.
    Here `frames` (n,) holds a number of the sample.
    """
    found: dict[str, list[Any]] = {}
    for number, (dataset, sample) in enumerate(
        (d, s) for d in map(Dataset.open, datasets) for s in d.samples()
    ):
        world, size = dataset.world, dataset.config.image
        least = dataset.config.visibility.min_pixels * size.width * size.height / (320 * 240)
        for image in sample.images:
            folder = dataset.folder(sample.id)
            picture = np.asarray(PIL.Image.open(folder / image.path))
            mask = np.asarray(PIL.Image.open(folder / str(image.mask)))
            state = sample.plan.state(image.state, world)
            for seen in image.objects:
                if seen.pixels < least:
                    continue
                inside = mask == seen.index + 1
                obj = state[seen.index]
                row = {
                    "rows": features(picture, inside),
                    "outlines": outline(inside),
                    "labels": [world.values(a).index(getattr(obj, a)) for a in APPEARANCE],
                    "frames": number,
                    "objects": seen.index,
                    "final": image.state == "final",
                    "cameras": image.camera,
                    "shown": seen.visibility,
                    "crops": crop(picture, inside),
                }
                for key, value in row.items():
                    found.setdefault(key, []).append(value)
    return {key: np.array(values) for key, values in found.items()}


def crop(image: NDArray[np.uint8], inside: NDArray[np.bool_], size: int = 96) -> NDArray[np.uint8]:
    """A square of the picture about an object. Shape: (size, size, 3)."""
    rows, columns = np.nonzero(inside)
    reach = max(np.ptp(rows), np.ptp(columns)) * 0.8 + 4
    x, y = columns.mean(), rows.mean()
    box = (int(x - reach), int(y - reach), int(x + reach), int(y + reach))
    return np.asarray(PIL.Image.fromarray(image).crop(box).resize((size, size)))


def guess(rows: Floats, labels: NDArray[np.int64], frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class of every row, by networks that have not seen its frame. Shape: (n,)."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a network only waits for its threads
    guesses = np.zeros(len(labels), dtype=np.int64)
    for fold in range(FOLDS):
        test = frames % FOLDS == fold
        mean, spread = rows[~test].mean(axis=0), rows[~test].std(axis=0) + 1e-6
        scaled = torch.tensor((rows - mean) / spread, dtype=torch.float32)
        truth = torch.tensor(labels)
        total: torch.Tensor | float = 0.0
        for _ in range(3):
            net = torch.nn.Sequential(
                torch.nn.Linear(rows.shape[1], 128),
                torch.nn.GELU(),
                torch.nn.Dropout(0.1),
                torch.nn.Linear(128, int(labels.max()) + 1),
            )
            steps = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(steps, 400)
            inputs, wanted = scaled[~test], truth[~test]
            for _ in range(400):
                noisy = inputs + 0.05 * torch.randn_like(inputs)
                loss = torch.nn.functional.cross_entropy(net(noisy), wanted)
                steps.zero_grad()
                loss.backward()
                steps.step()
                schedule.step()
            with torch.no_grad():
                total = total + net.eval()(scaled[test]).softmax(-1)
        guesses[test] = torch.as_tensor(total).argmax(-1).numpy()
    return guesses


def matrix(
    truth: NDArray[np.int64], guesses: NDArray[np.int64], names: list[str], title: str
) -> Table:
    """A confusion table in per cent of the rows."""
    table = Table("true \\ guessed", *names, title=title)
    for k, name in enumerate(names):
        mine = guesses[truth == k]
        shares = [
            f"{100 * np.mean(mine == j):.1f}" if (mine == j).any() else "."
            for j in range(len(names))
        ]
        table.add_row(f"{name} ({len(mine)})", *shares)
    return table


def pairs(found: dict[str, NDArray[Any]]) -> list[tuple[int, int]]:
    """Rows of one object in an initial and in a final picture of its sample."""
    first: dict[tuple[int, int], list[int]] = {}
    for k in np.flatnonzero(~found["final"]).tolist():
        first.setdefault((found["frames"][k], found["objects"][k]), []).append(k)
    return [
        (a, b)
        for b in np.flatnonzero(found["final"]).tolist()
        for a in first.get((found["frames"][b], found["objects"][b]), [])
    ]


def report_changes(
    console: Console, world: World, found: dict[str, NDArray[Any]], worst: Path | None
) -> None:
    """Print how often an object looks changed that is not, or the other way round."""
    kinds = list(world.values("material"))
    label = dict(zip(APPEARANCE, found["labels"].T, strict=True))
    truth = label["color"] * len(kinds) + label["material"]
    guesses = guess(found["rows"], truth, found["frames"])
    console.print(
        f"{len(truth)} objects of {len(set(found['frames'].tolist()))} samples: "
        f"color and material both right {np.mean(guesses == truth):.2%}"
    )
    both = np.array(pairs(found))
    a, b = both.T
    changed, looks = truth[a] != truth[b], guesses[a] != guesses[b]
    recolored = guesses[a] // len(kinds) != guesses[b] // len(kinds)
    same = found["cameras"][a] == found["cameras"][b]
    whole = np.minimum(found["shown"][a], found["shown"][b])
    glass = np.array([bool(world.materials[k].transmission) for k in kinds])[label["material"][a]]
    every = np.ones(len(a), dtype=bool)
    table = Table("objects", "unchanged", "look changed", "in color", "changed", "look unchanged")
    groups = {
        "all": every,
        "same view": same,
        "another view": ~same,
        "clear": glass,
        "opaque": ~glass,
        "at least 97 % visible": whole >= LEAST_VISIBLE,
        "less visible": whole < LEAST_VISIBLE,
        "less than half visible": whole < 0.5,
    }
    for name, chosen in groups.items():
        kept, made = chosen & ~changed, chosen & changed
        shares = [
            f"{(kept & looks).sum()} ({(kept & looks).sum() / max(1, kept.sum()):.2%})",
            f"{(kept & recolored).sum()} ({(kept & recolored).sum() / max(1, kept.sum()):.2%})",
            f"{(made & ~looks).sum()} ({(made & ~looks).sum() / max(1, made.sum()):.2%})",
        ]
        table.add_row(name, str(kept.sum()), *shares[:2], str(made.sum()), shares[2])
    console.print(table)
    colors = world.values("color")
    wrong = np.flatnonzero(changed != looks)
    wrong = wrong[np.argsort(~(glass & recolored)[wrong], kind="stable")]
    tiles = []
    for k in wrong[:20].tolist():
        x, y = both[k]
        names = [f"{colors[g // len(kinds)]} {kinds[g % len(kinds)]}" for g in (truth[x], truth[y])]
        seen = [
            f"{colors[g // len(kinds)]} {kinds[g % len(kinds)]}" for g in (guesses[x], guesses[y])
        ]
        console.print(
            f"{found['frames'][x]:06d} object {found['objects'][x]} {found['cameras'][x]} to "
            f"{found['cameras'][y]}: {' > '.join(names)} taken for {' > '.join(seen)}, "
            f"visible {found['shown'][x]:.2f} > {found['shown'][y]:.2f}"
        )
        tiles.append(np.hstack([found["crops"][x], found["crops"][y]]))
    if worst is not None and tiles:
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 4)
        sheet = np.vstack([np.hstack(tiles[k : k + 4]) for k in range(0, len(tiles), 4)])
        PIL.Image.fromarray(sheet).save(worst)


def main() -> None:
    """Print everything."""
    console = Console(width=110, file=blender.start())
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=Path, nargs="+", metavar="DATASET", help="as they are")
    parser.add_argument("--worst", type=Path, help="where to draw the first wrong ones")
    parser.add_argument("--frames", type=int, default=360)
    parser.add_argument("--set", action="append", default=[], help="as `tvr render --set`")
    parser.add_argument("--looks", type=Path, help="keep, or reuse, what was rendered")
    asked = parser.parse_args()
    config = load_config("trance", asked.set)
    world = config.world
    if asked.scenes:
        report_changes(console, world, collect_scenes(asked.scenes), asked.worst)
        return
    if asked.looks and asked.looks.exists():
        with np.load(asked.looks) as stored:
            found = dict(stored)
    else:
        found = collect(config, asked.frames)
        if asked.looks:
            np.savez(asked.looks, **found)
    rows, frames = found["rows"], found["frames"]
    label = dict(zip(APPEARANCE, found["labels"].T, strict=True))
    for attribute in ("shape", "size"):
        names = list(world.values(attribute))
        guesses = guess(found["outlines"], label[attribute], frames)
        right = np.mean(guesses == label[attribute])
        console.print(matrix(label[attribute], guesses, names, f"{attribute}, {right:.2%} right"))
    colors, kinds = list(world.values("color")), list(world.values("material"))
    truth = label["color"] * len(kinds) + label["material"]
    guesses = guess(rows, truth, frames)
    console.print(
        f"{len(rows)} objects of at least {LEAST_PIXELS} px in {len(set(frames.tolist()))} frames, "
        f"{' '.join(asked.set) or 'as preset'}: "
        f"color and material both right {np.mean(guesses == truth):.2%}, "
        f"color {np.mean(guesses // len(kinds) == label['color']):.2%}, "
        f"material {np.mean(guesses % len(kinds) == label['material']):.2%}"
    )
    for k, kind in enumerate(kinds):
        chosen = label["material"] == k
        console.print(
            matrix(
                label["color"][chosen], guesses[chosen] // len(kinds), colors, f"color of {kind}, %"
            )
        )
    console.print(matrix(label["material"], guesses % len(kinds), kinds, "material, %"))
    names = [f"{c} {m}" for c, m in itertools.product(colors, kinds)]
    wrong = Counter(
        (min(t, g), max(t, g))
        for t, g in zip(truth.tolist(), guesses.tolist(), strict=True)
        if t != g
    )
    sizes = Counter(truth.tolist())
    table = Table("pair", "confused", "of", "right %", title="the worst pairs")
    ranked = sorted(wrong, key=lambda p: -wrong[p] / (sizes[p[0]] + sizes[p[1]]))
    for a, b in ranked[:10]:
        both = sizes[a] + sizes[b]
        right = f"{100 * (1 - wrong[a, b] / both):.1f}"
        table.add_row(f"{names[a]} / {names[b]}", str(wrong[a, b]), str(both), right)
    console.print(table)


if __name__ == "__main__":
    main()

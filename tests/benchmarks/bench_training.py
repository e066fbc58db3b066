"""Whether generated reasoning is true, and what this project's own part of a training step costs.

python tests/benchmarks/bench_training.py [--samples N] [--questions N]

Samples are planned and labelled from their geometry, so nothing is rendered: first the reasoning
about every pair of views in every style, statement by statement, then rows, prompts and rewards of
GRPO steps of 8 questions with 8 answers each, on one core.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from rich.console import Console
from rich.progress import track
from rich.table import Table

from star_tvr.generator.labels import image_labels
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.seeds import stream
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import Dataset, Manifest, commit_sample, dumps
from star_tvr.schemas.records import Pair, Sample
from star_tvr.training import grpo
from star_tvr.training.config import PromptConfig, TraceConfig, resolve
from star_tvr.training.rows import RowReader
from star_tvr.training.scene_facts import facts_of
from star_tvr.training.trace_checker import check_trace
from star_tvr.training.traces import write_trace
from star_tvr.training.training_rows import training_rows
from star_tvr.training.trl_arguments import trainer_arguments

PRESETS = ("star", "view", "trance", "random-view", "orbit")
STYLES = [
    TraceConfig(style=style, boxes=b) for style in ("trace", "compact") for b in (False, True)
]
GENERATIONS = 8
NOISE = 2.5
"""Of the pictures, in levels: makes PNG files as large as those of rendered scenes."""

RENDER = {
    "engine": "none",
    "device": "cpu",
    "samples": 1,
    "denoiser": None,
    "blender": "none",
    "seconds": 0.0,
}


def samples(config: DatasetConfig, count: int) -> Iterator[tuple[Sample, dict[str, bytes]]]:
    """Samples with labels from their geometry, and the names and bytes of their pictures."""
    sampler = Sampler.from_config(config)
    world = sampler.world
    width, height = config.image.width, config.image.height
    for index in range(count):
        plan = sampler.plan(index)
        images, files = [], {}
        for state_name, name in plan.views:
            state = plan.initial if state_name == "initial" else plan.final
            objects, camera = visible_objects(state, world), plan.cameras[name]
            ids = rasterize(objects, camera, world, width, height).ids
            mask = np.array([0, *(o.index + 1 for o in objects)], np.uint8)[ids + 1]
            image = image_labels(mask, state_name, state, name, camera, world, False)
            images.append(image)
            colors = [(128, 128, 128), *(world.colors[o.color] for o in state)]
            files[image.path] = png(np.array(colors)[mask], index)
        yield Sample(plan, tuple(images), RENDER), files


def png(pixels: NDArray[np.int64], index: int) -> bytes:
    """A picture with some noise, as a PNG file. Shape: (height, width, 3)."""
    noise = stream(0, "noise", index).normal(0, NOISE, pixels.shape)
    file = BytesIO()
    Pictures.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def truth_of_traces(preset: str, count: int) -> list[str]:
    """A line of the table: traces, statements, false ones, sentences not read, ms a trace."""
    config = load_config(preset)
    world = Sampler.from_config(config).world
    found, writing, checking = Counter[str](), 0.0, 0.0
    for sample, _ in samples(config, count):
        views: dict[str, list[str]] = {"initial": [], "final": []}
        for image in sample.images:
            views[image.state].append(image.camera)
        for pair in (Pair(sample.id, a, b) for a in views["initial"] for b in views["final"]):
            facts = facts_of(sample, pair, world, config)
            for style in STYLES:
                begun = time.process_time()
                text = write_trace(facts, style, 0, *pair.to_json().values())
                written = time.process_time()
                report = check_trace(text, facts)
                checking += time.process_time() - written
                writing += written - begun
                found["traces"] += 1
                found["statements"] += len(report.statements)
                found["false"] += report.false
                found["unread"] += report.unparsed
    figures = [f"{found[key]:,}" for key in ("traces", "statements", "false", "unread")]
    times = (f"{1000 * t / found['traces']:.2f}" for t in (writing, checking))
    return [preset, *figures, *times]


def own_part(root: Path, questions: int) -> list[tuple[str, str]]:
    """What this project's own code costs in GRPO: names and figures."""
    config = load_config("star", [f"num_samples={questions}"])
    data = root / "data"
    data.mkdir()
    (data / "dataset.json").write_text(dumps(Manifest.of(config, {}).to_json()))
    sampler, sizes, pairs = Sampler.from_config(config), [], []
    for sample, files in samples(config, questions):
        sizes += [len(content) for content in files.values()]
        files["sample.json"] = dumps(sample.to_json(sampler.world)).encode()
        commit_sample(data, sample.id, files)
        initial, *_, final = (image.camera for image in sample.images)
        pairs.append(Pair(sample.id, initial, final))
    dataset = Dataset.open(data)
    dataset.write_split("bench/train", pairs)
    document = {
        "model": "tiny",
        "dataset": str(data),
        "split": "bench/train",
        "output_dir": str(root / "run"),
        "use_cpu": True,
        "report_to": "none",
        "reward": {"extra": {"reference": 1.0, "consistency": 1.0, "grounding": 1.0}},
        "num_train_epochs": 1,
        "per_device_train_batch_size": 8 * GENERATIONS,
        "num_generations": GENERATIONS,
    }
    run = resolve("grpo", document, "bench")
    table = training_rows(run, dataset, trainer_arguments(run))
    rewards = grpo.reward_functions(run, dataset)
    writer = RowReader(dataset, PromptConfig(), TraceConfig(style="trace", boxes=True))
    rows_time = rewards_time = 0.0
    for first in range(0, questions - 7, 8):
        places = [k for k in range(first, first + 8) for _ in range(GENERATIONS)]
        begun = time.process_time()
        batch = table.__getitems__(places)
        rows_time += time.process_time() - begun
        answers = [writer.row(Pair(r["sample"], r["initial"], r["final"])) for r in batch]
        columns = {key: [row[key] for row in batch] for key in batch[0]}
        begun = time.process_time()
        for reward in rewards:
            reward([row["completion"] for row in answers], **columns)
        rewards_time += time.process_time() - begun
    steps = questions // 8
    return [
        ("picture, KB", f"{np.mean(sizes) / 1000:.0f}"),
        ("a question (two pictures, the sample, the prompt), ms", f"{ms(rows_time, 8 * steps)}"),
        ("a completion, all five rewards, ms", f"{ms(rewards_time, 8 * GENERATIONS * steps)}"),
        ("a step of 8 questions with 8 answers, ms", f"{ms(rows_time + rewards_time, steps)}"),
    ]


def ms(seconds: float, count: int) -> str:
    """Milliseconds each."""
    return f"{1000 * seconds / count:.2g}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100, help="of every preset, for traces")
    parser.add_argument("--questions", type=int, default=80, help="of GRPO")
    options = parser.parse_args()
    console = Console()
    table = Table("preset", "traces", "statements", "false", "not read", "write, ms", "check, ms")
    for preset in track(PRESETS, "traces", console=Console(stderr=True), transient=True):
        table.add_row(*truth_of_traces(preset, options.samples))
    console.print(table)
    table = Table("own part of a GRPO step", "")
    with tempfile.TemporaryDirectory() as scratch:
        for line in own_part(Path(scratch), options.questions):
            table.add_row(*line)
    console.print(table)


if __name__ == "__main__":
    main()

"""Files of plans: `plans/00000.jsonl` and so on, 1,000 to a file, and every `sample.json`.

Plans are written without being rendered, and read to be rendered.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from star_tvr.generator.blender_process import RenderJob
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import DataError, TvrError
from star_tvr.scenes.rules import check_plan
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.world import World
from star_tvr.schemas.checks import check, parse_json
from star_tvr.schemas.config import load_config, preset_names
from star_tvr.schemas.dataset import (
    SAMPLES_PER_FOLDER,
    Dataset,
    dumps_line,
    refuse_newer,
    sample_folder,
    sample_id,
)
from star_tvr.schemas.files import make_folder, read_text, refuse_links, write_whole, writing
from star_tvr.schemas.locks import brief_lock
from star_tvr.schemas.records import Sample, plan_from_json, plan_to_json

CHUNK = 50
"""Samples planned by a worker at a time."""

FOLDERS_ABOVE = 4
"""From a `sample.json` up to its data set."""


def write_plans(
    out: Path, config: DatasetConfig, indices: Sequence[int], workers: int = 1, force: bool = False
) -> Iterator[int]:
    """Plan samples and write them; yields every index once it is in its file.

    Files are the same bytes whatever the workers, and shards that share a file add to it.

    Args:
        out: a folder of this configuration; plans that are there are taken to be its own.
        force: plan those again that are there.

    Raises:
        DataError: a file of plans holds something else, or cannot be written.
        PlanError: a sample cannot be planned; what was planned before is kept.
    """
    folder = out / "plans"
    refuse_links(out, folder)
    with writing(folder):
        make_folder(folder)
    text = config.model_dump_json(by_alias=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for block, group in groupby(indices, lambda i: i // SAMPLES_PER_FOLDER):
            members = list(group)
            path = folder / f"{block:05d}.jsonl"
            there = {} if force else _read(path)
            missing = [i for i in members if i not in there]
            chunks = [missing[k : k + CHUNK] for k in range(0, len(missing), CHUNK)]
            lines: list[str] = []
            for planned in pool.map(_plan, [text] * len(chunks), chunks):
                lines += planned
            if lines:
                _add(path, dict(zip(missing, lines, strict=True)))
            yield from members


def plan_line(sampler: Sampler, index: int) -> str:
    """One plan as a line of JSON: `sample.json` without what only rendering knows."""
    image = sampler.config.image
    plan = sampler.plan(index)
    return dumps_line(plan_to_json(plan, sampler.world, image.width, image.height))


@cache
def _sampler(text: str) -> Sampler:
    return Sampler.from_config(DatasetConfig.model_validate_json(text))


def _plan(text: str, indices: list[int]) -> list[str]:
    return [plan_line(_sampler(text), i) for i in indices]


def _add(path: Path, lines: Mapping[int, str]) -> None:
    """Put lines into a file that is ordered by sample, replacing those of the same samples."""
    with writing(path), brief_lock(path.parent):
        together = {**_read(path), **lines}
        write_whole(path, "".join(together[k] for k in sorted(together)))


def _read(path: Path) -> dict[int, str]:
    """The lines of a file of plans by number of the sample; none if there is no file."""
    if not path.exists() and not path.is_symlink():
        return {}
    lines = read_text(path, root=path.parent).splitlines(keepends=True)
    return {_id(line, path): line for line in lines}


def _id(line: str, path: Path) -> int:
    document = parse_json(line, path)
    try:
        return int(document["id"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path}: holds a line that is no plan; delete the file") from None


def config_of_plans(path: Path) -> DatasetConfig | None:
    """What the samples were made with that a file describes.

    It is the configuration of the data set that the file lies in. Of a file that lies alone it is
    the preset that the first sample names, with the sample's size, files, samples and denoiser;
    None if that preset does not come with the project.

    Raises:
        DataError: the file or its data set cannot be read.
    """
    for folder in path.resolve().parents[:FOLDERS_ABOVE]:
        if (folder / "dataset.json").exists():
            return Dataset.open(folder).config
    documents = _documents(path)
    for where, document in documents:
        refuse_newer(document, path)
        check(document, "plan", where)
    document = documents[0][1]
    if document["preset"] not in preset_names():
        return None
    image, render = document["images"][0], document.get("render", {})
    last = max(int(d["id"]) for _, d in documents)
    settings: dict[str, Any] = {"num_samples": last + 1}
    if "width" in image:
        settings |= {"image.width": image["width"], "image.height": image["height"]}
        settings |= {f"{key}s": image.get(key) is not None for key in ("mask", "normal")}
        settings["depth"] = "depth" in image
    if render:
        settings["render.samples"] = render["samples"]
        settings["render.denoise"] = render["denoiser"] is not None
    return load_config(document["preset"], [f"{k}={json.dumps(v)}" for k, v in settings.items()])


def read_jobs(path: Path, world: World, root: Path | None = None) -> list[RenderJob]:
    """The samples that a file describes: a `sample.json`, or JSON Lines of plans.

    Args:
        root: a data set that the file must be in, not by a link.

    Raises:
        DataError: the file is unreadable, from a newer version, or names what `world` lacks.
    """
    return [_job(document, where, world) for where, document in _documents(path, root)]


def _documents(path: Path, root: Path | None = None) -> list[tuple[str, Any]]:
    """The plans in a file, not yet checked, each with where it is, for errors."""
    text = read_text(path, root=root)
    if path.suffix == ".jsonl":
        lines = [(f"{path}, line {n}", t) for n, t in enumerate(text.split("\n"), 1) if t.strip()]
    else:
        lines = [(str(path), text)]
    if not lines:
        raise DataError(f"{path}: holds no plan")
    return [(where, parse_json(line, where)) for where, line in lines]


def samples_or_plans(dataset: Dataset) -> Iterator[Sample]:
    """Every sample that was rendered; where none was, those that were planned, without images.

    Raises:
        DataError: a file is damaged.
    """
    if dataset.ids():
        yield from dataset.samples()
        return
    for path in sorted((dataset.root / "plans").glob("*.jsonl")):
        for job in read_jobs(path, dataset.world, dataset.root):
            yield Sample(plan_from_json(job.plan or {}), images=(), render={})


def stored_job(root: Path, index: int, world: World) -> RenderJob:
    """The job that renders a sample after its own `sample.json`, if it has one.

    Raises:
        DataError: the file is damaged or names what `world` lacks; says how to do without it.
    """
    path = sample_folder(root, sample_id(index)) / "sample.json"
    if not path.exists() and not path.is_symlink():
        return RenderJob(index)
    try:
        (job,) = read_jobs(path, world, root)
        if job.index != index:
            raise DataError(f"{path}: id: is {sample_id(job.index)}, not {sample_id(index)}")
    except DataError as problem:
        raise DataError(f"{problem}; delete {path.parent} to plan the sample anew") from None
    return job


def _job(document: Any, where: str, world: World) -> RenderJob:
    refuse_newer(document, Path(where))
    check(document, "plan", where)
    try:
        plan = plan_from_json(document)
    except TvrError as problem:
        raise DataError(f"{where}: cameras: {problem}") from None
    check_plan(plan, world, where)
    return RenderJob(int(document["id"]), document)

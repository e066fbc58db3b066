"""Plans that were written down: in a `sample.json`, or in the lines of `plans/*.jsonl`."""

from pathlib import Path
from typing import Any

from star_tvr.generator.blender_process import RenderJob
from star_tvr.scenes.errors import DataError, TvrError
from star_tvr.scenes.rules import check_plan
from star_tvr.scenes.world import World
from star_tvr.schemas.checks import check, parse_json
from star_tvr.schemas.dataset import refuse_newer, sample_folder, sample_id
from star_tvr.schemas.files import read_text
from star_tvr.schemas.records import plan_from_json


def read_jobs(path: Path, world: World) -> list[RenderJob]:
    """The samples that a file describes: a `sample.json`, or JSON Lines of plans.

    Raises:
        DataError: the file is unreadable, from a newer version, or names what `world` lacks.
    """
    text = read_text(path)
    if path.suffix == ".jsonl":
        lines = [(f"{path}, line {n}", t) for n, t in enumerate(text.split("\n"), 1) if t.strip()]
    else:
        lines = [(str(path), text)]
    jobs = [_job(parse_json(line, where), where, world) for where, line in lines]
    if not jobs:
        raise DataError(f"{path}: holds no plan")
    return jobs


def stored_job(root: Path, index: int, world: World) -> RenderJob:
    """The job that renders a sample after its own `sample.json`, if it has one.

    Raises:
        DataError: the file is damaged or names what `world` lacks; says how to do without it.
    """
    path = sample_folder(root, sample_id(index)) / "sample.json"
    if not path.exists():
        return RenderJob(index)
    try:
        (job,) = read_jobs(path, world)
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

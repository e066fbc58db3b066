"""One Blender process that makes samples: reads orders on stdin, answers on stdout.

The first line it reads is a JSON object: `root`, `config`, `device`, `gpu_index`, whether it must
be `reproducible`, `keep_blend`, and the file of its `log`. Every further line names a sample to
make, as a `RenderJob`. Each line is answered with one JSON object; the process ends when stdin
does. Whatever goes wrong with a sample is answered too; only a broken process is silent.
"""

import json
import resource
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from star_tvr.generator import blender
from star_tvr.generator.dataset_writer import write_sample
from star_tvr.generator.frames import DEPTH_SCALE, depth_steps, normal_colors, render_frame
from star_tvr.generator.labels import image_labels
from star_tvr.generator.stage import Stage
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import ParameterError, TvrError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.sampler import Sampler
from star_tvr.scenes.seeds import derive
from star_tvr.scenes.world import World
from star_tvr.schemas.dataset import dumps
from star_tvr.schemas.pictures import encode_mask, encode_png
from star_tvr.schemas.records import Sample, plan_from_json
from star_tvr.schemas.stream import Decision, planned


def render_sample(
    stage: Stage, plan: Plan, world: World, config: DatasetConfig, keep_blend: bool = False
) -> dict[str, bytes]:
    """Render every view of a plan; the files of its folder by name.

    Args:
        keep_blend: add Blender's file of every view.

    Raises:
        RenderError: Blender gave up.
    """
    files: dict[str, bytes] = {}
    images = []
    start = time.perf_counter()
    stage.light(plan.lights)
    stage.surround(plan.seed)
    stage.seed(derive(plan.seed, "noise") % 2**31)
    shown = None
    for state_name, camera_name in plan.views:
        state = plan.state(state_name, world)
        if state != shown:
            stage.show(state)
            shown = state
        camera = plan.cameras[camera_name]
        stage.point_camera(camera)
        frame = render_frame(stage)
        image = image_labels(
            frame.mask, state_name, state, camera_name, camera, world, config.masks
        )
        name = image.path.removesuffix(".png")
        files[image.path] = encode_png(frame.image)
        if image.mask:
            files[image.mask] = encode_mask(frame.mask)
        if config.depth:
            image = replace(image, depth=f"{name}.depth.png", depth_scale=DEPTH_SCALE)
            files[f"{name}.depth.png"] = encode_png(depth_steps(frame.depth))
        if frame.normals is not None:
            image = replace(image, normals=f"{name}.normals.png")
            colors = normal_colors(frame.normals, camera.world_to_camera())
            files[f"{name}.normals.png"] = encode_png(colors)
        if keep_blend:
            image = replace(image, blend=f"{name}.blend")
            files[f"{name}.blend"] = _saved(stage)
        images.append(image)
    render = {**stage.describe(), "seconds": round(time.perf_counter() - start, 3)}
    sample = Sample(plan, tuple(images), render)
    files["sample.json"] = dumps(sample.to_json(world)).encode()
    return files


def _saved(stage: Stage) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tvr-") as folder:
        path = Path(folder) / "scene.blend"
        stage.save(path)
        return path.read_bytes()


def resident() -> int:
    """Memory that this process holds, in MiB; the most it ever held where /proc is missing."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() // 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


def _stage(order: dict[str, Any], config: DatasetConfig) -> Stage:
    device = blender.choose_device(order["device"])
    if order["reproducible"] and device != "cpu":
        raise ParameterError("reproducible", f"holds for the device cpu only, not for {device}")
    if order["reproducible"] and not blender.is_reproducible():
        raise ParameterError(
            "reproducible",
            "this platform does not let a process fix its addresses; without it images differ by "
            "rounding only",
        )
    return Stage(config, device, order["gpu_index"])


def _plan(
    sampler: Sampler,
    index: int,
    plan: dict[str, Any] | None,
    draw: int,
    decision: dict[str, Any] | None,
) -> Plan:
    """The plan that a job gives, or that follows from the configuration."""
    if plan is not None:
        return plan_from_json(plan)
    return planned(sampler, index, draw, Decision.model_validate(decision) if decision else None)


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    order = json.loads(sys.stdin.readline())
    replies = blender.silence(Path(order["log"]))

    def reply(**content: Any) -> None:
        print(json.dumps(content), file=replies, flush=True)

    def refuse(problem: TvrError) -> None:
        arguments: tuple[object, ...] = (str(problem),)
        if isinstance(problem, ParameterError):
            arguments = (problem.parameter, problem.message, problem.value)
        reply(error=type(problem).__name__, arguments=arguments)

    try:
        config = DatasetConfig.parse(order["config"], "configuration")
        root = Path(order["root"])
        sampler = Sampler.from_config(config)
        stage = _stage(order, config)
    except TvrError as problem:
        refuse(problem)
        return
    reply(ready=stage.describe())
    for line in sys.stdin:
        job = json.loads(line)
        start, start_cpu = time.perf_counter(), time.process_time()
        try:
            plan = _plan(sampler, **job)
            files = render_sample(stage, plan, sampler.world, config, order["keep_blend"])
            write_sample(root, plan.id, files)
        except TvrError as problem:
            refuse(problem)
        else:
            seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
            size = sum(map(len, files.values()))
            reply(seconds=seconds, frames=len(plan.views), memory=resident(), cpu=cpu, size=size)


if __name__ == "__main__":
    main()

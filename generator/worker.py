"""One Blender process that makes samples: reads numbers on stdin, answers on stdout.

The first line it reads is a JSON object with `root`, `config` and `device`; every further line is
the number of a sample to make. It answers each line with one JSON object, and ends when stdin does.
Whatever goes wrong with a sample is answered too; only a broken process is silent.
"""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from generator import blender
from generator.frames import encode_png, render_frame
from generator.labels import image_labels
from generator.stage import Stage
from scenes.errors import TvrError
from scenes.plans import Plan
from scenes.sampler import Sampler
from scenes.seeds import derive
from scenes.world import World
from schemas.config import Config
from schemas.dataset import commit_sample, dumps
from schemas.records import Sample


def make_sample(stage: Stage, plan: Plan, world: World, config: Config) -> dict[str, bytes]:
    """Render every view of a plan; the files of its folder by name.

    Raises:
        RenderError: Blender gave up.
    """
    files: dict[str, bytes] = {}
    images = []
    start = time.perf_counter()
    stage.light(plan.lights)
    stage.seed(derive(plan.seed, "noise") % 2**31)
    shown = None
    for state_name, camera_name in plan.views:
        state = plan.state(state_name, world)
        if state != shown:
            stage.show(state)
            shown = state
        camera = plan.cameras[camera_name]
        stage.look(camera)
        frame = render_frame(stage)
        image = image_labels(
            frame.mask, state_name, state, camera_name, camera, world, config["masks"]
        )
        images.append(image)
        files[image.path] = encode_png(frame.image)
        if image.mask:
            files[image.mask] = encode_png(frame.mask)
    render = {**stage.describe(), "seconds": round(time.perf_counter() - start, 3)}
    sample = Sample(plan, tuple(images), render)
    files["sample.json"] = dumps(sample.to_json(world)).encode()
    return files


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    order = json.loads(sys.stdin.readline())
    replies = blender.silence(Path(order["log"]))

    def reply(**content: Any) -> None:
        print(json.dumps(content), file=replies, flush=True)

    try:
        config, root = order["config"], Path(order["root"])
        sampler = Sampler.from_config(config)
        stage = Stage(config, blender.choose_device(order["device"]))
    except TvrError as problem:
        reply(error=str(problem), kind=type(problem).__name__)
        return
    reply(ready=stage.describe())
    for line in sys.stdin:
        index = int(line)
        start = time.perf_counter()
        try:
            plan = sampler.plan(index)
            files = make_sample(stage, plan, sampler.world, config)
            commit_sample(root, plan.id, files)
        except (TvrError, OSError) as problem:
            reply(index=index, error=str(problem), kind=type(problem).__name__)
        else:
            reply(index=index, seconds=time.perf_counter() - start, frames=len(plan.views))


if __name__ == "__main__":
    main()

"""Rendering a data set: what is missing, who makes it, and what to do when a worker dies.

Blender lives in worker processes only. A worker that dies is replaced and its sample is made
again; samples are committed whole, so an interrupted run goes on where it stopped.
"""

import json
import os
import platform
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from generator.blender import reproducible_command
from scenes import errors
from scenes.errors import ConfigError, DataError, RenderError, TvrError
from scenes.sampler import Sampler
from schemas.config import Config
from schemas.dataset import (
    Dataset,
    dumps,
    manifest,
    remove_drafts,
    rendered,
    sample_id,
    write_whole,
)

TRIES = 3
"""How often a sample is begun before a dying worker is blamed on it."""

DEADLINE = 3600.0
"""Seconds after which a worker that does not answer is replaced."""

PATIENCE = 10.0
"""Seconds that an idle worker has to end."""

TOO_MANY = 5
"""Samples that cannot be planned before a run is stopped."""

REPO = Path(__file__).parent.parent


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` parts of a data set: a stretch of neighbouring samples."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `I/N`.

        >>> Shard.parse("1/4")
        Shard(index=1, count=4)

        Raises:
            ConfigError: the text has another form, or I is not below N.
        """
        first, slash, second = text.partition("/")
        if not (slash and first.isdecimal() and second.isdecimal() and int(first) < int(second)):
            raise ConfigError(f"--shard {text}: write I/N with I from 0 to N-1, for example 0/4")
        return cls(int(first), int(second))

    def indices(self, total: int) -> range:
        """The samples of this part.

        >>> [list(Shard(k, 3).indices(7)) for k in range(3)]
        [[0, 1], [2, 3], [4, 5, 6]]
        """
        return range(total * self.index // self.count, total * (self.index + 1) // self.count)


@dataclass(frozen=True)
class Made:
    """A sample that was made. `seconds`: wall time of its worker for it."""

    index: int
    seconds: float
    frames: int


def prepare(out: Path, config: Config, shard: Shard | None = None) -> list[int]:
    """Check configuration and folder, and say which samples are missing. Nothing is written.

    Raises:
        ConfigError: the configuration cannot be met, or the folder was made with another one.
        DataError: the folder holds something else.
    """
    Sampler.from_config(config)
    if (out / "dataset.json").exists():
        _refuse_difference(Dataset.open(out).config, config, out)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is not empty and is no data set; name another folder")
    done = set(rendered(out))
    mine = (shard or Shard()).indices(config["num_samples"])
    missing = [i for i in mine if sample_id(i) not in done]
    return missing


def open_folder(out: Path, config: Config) -> None:
    """Make the folder and write its manifest, which covers what was asked for before, too.

    Raises:
        DataError: it cannot be written.
    """
    path = out / "dataset.json"
    former = Dataset.open(out).config["num_samples"] if path.exists() else 0
    wanted = {**config, "num_samples": max(former, config["num_samples"])}
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, dumps(manifest(wanted, _versions())))
    except OSError as problem:
        raise DataError(f"{out}: cannot be written ({problem.strerror})") from None


def render(
    out: Path, config: Config, missing: list[int], workers: int = 1, device: str = "auto"
) -> Iterator[Made]:
    """Make the missing samples, yielding each as it is committed, in the order of completion.

    Stopping the iteration stops the workers; what is committed stays.

    Raises:
        ConfigError: the device does not exist.
        RenderError: a sample could not be made.
        PlanError: samples could not be planned; all others were made first, unless many failed.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in missing:
        todo.put(index)
    results: queue.SimpleQueue[Made | TvrError | None] = queue.SimpleQueue()
    order = {"root": str(out.resolve()), "config": config, "device": device}
    crew = [_Worker(order, todo, results) for _ in range(max(1, min(workers, len(missing))))]
    unplanned: list[TvrError] = []
    at_work = len(crew)
    try:
        for worker in crew:
            worker.start()
        while at_work:
            result = results.get()
            if result is None:
                at_work -= 1
            elif isinstance(result, Made):
                yield result
            elif isinstance(result, errors.PlanError) and len(unplanned) < TOO_MANY:
                unplanned.append(result)
            else:
                raise result
    finally:
        for worker in crew:
            worker.stop()
        for worker in crew:
            worker.join()
    if unplanned:
        raise unplanned[0]


class _Worker(threading.Thread):
    """A thread that keeps one Blender process busy, and replaces it when it dies."""

    def __init__(
        self,
        order: dict[str, Any],
        todo: "queue.SimpleQueue[int]",
        results: "queue.SimpleQueue[Made | TvrError | None]",
    ) -> None:
        super().__init__(daemon=True)
        self.order, self.todo, self.results = order, todo, results
        self.out = Path(order["root"])
        self.process: subprocess.Popen[str] | None = None
        self.stopping = False

    def run(self) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="tvr-") as folder:
                log = Path(folder) / "blender.log"
                while not self.stopping:
                    try:
                        index = self.todo.get_nowait()
                    except queue.Empty:
                        break
                    self.results.put(self._make(index, log))
                self._dismiss()
        except TvrError as problem:
            self.results.put(problem)
        finally:
            self.stop()
            self.results.put(None)

    def stop(self) -> None:
        """End the process; its unfinished sample leaves no trace in the data set."""
        self.stopping = True
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _dismiss(self) -> None:
        """Let an idle process end by itself, so that it can clean up."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def _make(self, index: int, log: Path) -> Made | TvrError:
        for _ in range(TRIES):
            remove_drafts(self.out, {sample_id(index)})  # of a process that died over it
            if self.stopping or not self._ready(log):
                continue
            answer = self._ask(f"{index}\n")
            if answer is None:
                continue
            if "error" in answer:
                return _error(answer)
            return Made(answer["index"], answer["seconds"], answer["frames"])
        return RenderError(
            f"sample {sample_id(index)}: Blender died {TRIES} times over it{_last_words(log)}"
        )

    def _ready(self, log: Path) -> bool:
        """Have a process with its stage built; False if it died on the way.

        Raises:
            TvrError: it says why it cannot render, or the folder cannot be written.
        """
        if self.process is not None and self.process.poll() is None:
            return True
        command = reproducible_command([sys.executable, "-m", "generator.worker"])
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("a"),
            text=True,
            cwd=REPO,
            env={**os.environ, "TMPDIR": str(log.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        answer = self._ask(json.dumps({**self.order, "log": str(log)}) + "\n")
        if answer is None:
            return False
        if "error" in answer:
            raise _error(answer)
        open_folder(self.out, self.order["config"])
        return True

    def _ask(self, line: str) -> dict[str, Any] | None:
        """Send one line and wait for one answer; None if the process died or hung."""
        process = self.process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        alarm = threading.Timer(DEADLINE, process.kill)
        alarm.start()
        try:
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
        except (BrokenPipeError, ValueError):
            answer = ""
        finally:
            alarm.cancel()
        if not answer.endswith("\n"):
            process.kill()
            process.wait()
            return None
        content: dict[str, Any] = json.loads(answer)
        return content


def _error(answer: dict[str, Any]) -> TvrError:
    kind = getattr(errors, answer["kind"], RenderError)
    return kind(answer["error"]) if issubclass(kind, TvrError) else RenderError(answer["error"])


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f" (its last words: {lines[-1]})" if lines else ""


def _versions() -> dict[str, str]:
    packages = ("star-tvr", "bpy", "numpy", "scipy", "pillow")
    return {"python": platform.python_version(), **{p: version(p) for p in packages}}


def _refuse_difference(former: Config, config: Config, out: Path) -> None:
    """Only the number of samples may differ between two runs into one folder."""
    for key, (old, new) in sorted(_differences(former, config).items()):
        if key != "num_samples":
            raise ConfigError(
                f"{out}: was made with {key} = {json.dumps(old)}, now it is {json.dumps(new)}; "
                f"use the same configuration or another folder"
            )


def _differences(
    former: dict[str, Any], config: dict[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for key in {**former, **config}:
        old, new = former.get(key), config.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found.update(_differences(old, new, f"{prefix}{key}."))
        elif old != new:
            found[f"{prefix}{key}"] = (old, new)
    return found

"""One Blender process, seen from outside: started, given work, replaced when it dies or hangs."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import star_tvr
from star_tvr.generator.blender import check_device, reproducible_command
from star_tvr.generator.errors import RenderError
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import ConfigError, DataError, ParameterError, PlanError, TvrError
from star_tvr.schemas.dataset import remove_drafts, sample_id

TRIES = 3
"""How often a sample is begun before a dying worker is blamed on it."""

STARTUP = 600.0
"""Seconds that a process has to load Blender and build its stage."""

PATIENCE = 10.0
"""Seconds that an idle process has to end."""

CHATTER = ("Fra:", "Saved:", "Time:")
"""How lines of Blender begin that say how far it is, and not what is wrong."""

HOME = Path(star_tvr.__file__).parents[1]
"""Where `star_tvr` is found by a new Python: the repository, or site-packages."""


@dataclass(frozen=True)
class WorkerOptions:
    """How samples are made, as far as it does not show in them.

    Attributes:
        device: `auto`, `cpu` or one of `blender.DEVICES`.
        deadline: seconds for one sample; a process that needs longer is replaced.
        max_memory: MiB; a process that holds more after a sample is replaced.
        reproducible: None for where it is possible; True makes the impossible an error.
        keep_blend: keep Blender's files beside the images.

    Raises:
        ParameterError: the device is none that there is anywhere.
    """

    device: str = "auto"
    deadline: float = 3600.0
    max_memory: int = 4096
    reproducible: bool | None = None
    keep_blend: bool = False

    def __post_init__(self) -> None:
        """Refuse an unknown device before a process is started that would."""
        check_device(self.device)


@dataclass(frozen=True)
class RenderJob:
    """A sample to make: by its number, or after a plan (the content of a `sample.json`).

    Attributes:
        draw: how many of its plans, or choices, were passed over, see `Sampler.plan`.
        decision: of a curriculum, as `schemas.stream.Decision`, by which its plan is chosen.
    """

    index: int
    plan: Mapping[str, Any] | None = None
    draw: int = 0
    decision: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RenderedSample:
    """A sample that was made.

    Attributes:
        seconds: wall time of its process for it.
        memory: MiB that the process held after it.
        cpu: seconds that the cores worked for it.
        size: bytes of its files.
    """

    index: int
    seconds: float
    frames: int
    memory: int
    cpu: float
    size: int


class BlenderProcess:
    """Makes samples in a process of its own. One thread uses it; any thread may stop it."""

    def __init__(
        self,
        root: Path,
        config: DatasetConfig,
        options: WorkerOptions,
        gpu_index: int | None = None,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            root: the folder of the data set.
            gpu_index: the number of the only GPU to use; None for all of them.

        Raises:
            RenderError: there is no place for temporary files.
        """
        self._root, self._options = root, options
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="tvr-")
        except OSError as problem:
            where = problem.filename or "temporary files"
            raise RenderError(
                f"{where}: no folder can be made ({problem.strerror}); "
                f"set TMPDIR to a folder that has room"
            ) from None
        self._log = Path(self._folder.name) / "blender.log"
        self._order = {
            "root": str(root.resolve()),
            "config": config.to_json(),
            "device": options.device,
            "gpu_index": gpu_index,
            "reproducible": options.reproducible,
            "keep_blend": options.keep_blend,
            "log": str(self._log),
        }
        self._process: subprocess.Popen[str] | None = None
        self._stopping = False
        self._fate, self._late = "died", False

    def start(self) -> None:
        """Have a process with its stage built.

        Raises:
            TvrError: it says why it cannot render, or dies whenever it is started.
        """
        for _ in range(TRIES):
            if self._ready():
                return
        raise RenderError(f"Blender {self._fate} whenever it was started{self._last_words()}")

    def render(self, job: RenderJob) -> RenderedSample:
        """Make one sample.

        Raises:
            TvrError: it cannot be made.
        """
        name = sample_id(job.index)
        line = json.dumps(asdict(job)) + "\n"
        for _ in range(TRIES):
            if not self._ready() or self._process is None:
                continue
            pid = self._process.pid
            answer = self._ask(line, self._options.deadline)
            if answer is None:  # it died over it
                remove_drafts(self._root, {name}, pid)
                continue
            if "error" in answer:
                raise _error(answer)
            if answer["memory"] > self._options.max_memory:
                self._dismiss()
            return RenderedSample(job.index, **answer)
        end = "; raise deadline" if self._late else self._last_words()
        raise RenderError(f"sample {name}: Blender {self._fate} {TRIES} times over it{end}")

    def attempt(self, job: RenderJob) -> RenderedSample | TvrError:
        """Make one sample, or say why it cannot be made."""
        try:
            return self.render(job)
        except TvrError as problem:
            return problem

    def close(self) -> None:
        """Let the idle process end by itself, and clean up."""
        self._dismiss()
        self._folder.cleanup()

    def stop(self) -> None:
        """End the process at once; its unfinished sample leaves no trace in the data set."""
        self._stopping = True
        process = self._process  # its own thread may dismiss it meanwhile
        if process is not None:
            process.kill()
            process.wait()

    def _dismiss(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None and process.stdout is not None:
            try:
                process.stdin.close()
                process.wait(PATIENCE)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()
            process.stdout.close()

    def _ready(self) -> bool:
        """Whether there is a process with its stage built, after trying to start one.

        Raises:
            TvrError: it says why it cannot render, or the system lets none be started.
        """
        if self._stopping:
            return False
        if self._process is not None and self._process.poll() is None:
            return True
        command = [sys.executable, "-m", "star_tvr.generator.worker"]
        if self._options.reproducible is not False:
            command = reproducible_command(command)
        try:
            log = self._log.open("a")
        except OSError as problem:
            raise RenderError(
                f"{self._log}: cannot be written ({problem.strerror}); run the same command "
                f"again, with TMPDIR set to a folder that has room and that nobody clears"
            ) from None
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=HOME,
                env={**os.environ, "TMPDIR": self._folder.name, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError as problem:
            raise RenderError(
                f"{problem.filename or command[0]}: no process for Blender can be started "
                f"({problem.strerror}); see to it, then run the same command again"
            ) from None
        finally:
            log.close()
        if self._stopping:
            self.stop()
        answer = self._ask(json.dumps(self._order) + "\n", STARTUP)
        if answer is not None and "error" in answer:
            raise _error(answer)
        return answer is not None

    def _ask(self, line: str, deadline: float) -> dict[str, Any] | None:
        """Send one line and wait for one answer; None if the process died or hung.

        Raises:
            RenderError: the answer is none of ours.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        late = threading.Event()

        def too_late() -> None:
            late.set()
            process.kill()

        alarm = threading.Timer(deadline, too_late)
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
            self._late = late.is_set()
            self._fate = f"needed more than {deadline:g} s" if self._late else "died"
            return None
        try:
            content: dict[str, Any] = json.loads(answer)
        except ValueError:
            process.kill()
            process.wait()
            raise RenderError(
                f"Blender's process printed {answer.strip()[:60]!r} instead of an answer; keep "
                f"Python's start-up files (.pth, sitecustomize.py) from printing"
            ) from None
        return content

    def _last_words(self) -> str:
        log = self._log
        text = log.read_text(errors="replace") if log.exists() else ""
        lines = [t for t in text.splitlines() if t.strip() and not t.startswith(CHATTER)]
        return f" (its last words: {lines[-1]})" if lines else ""


def _error(answer: dict[str, Any]) -> TvrError:
    kinds = (ConfigError, DataError, ParameterError, PlanError)
    kind = {kind.__name__: kind for kind in kinds}.get(answer["error"], RenderError)
    return kind(*answer["arguments"])

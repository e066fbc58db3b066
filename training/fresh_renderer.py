"""The renderer of fresh data, seen from the training: started, watched, told what is used up.

The training starts it as any user would, by `tvr render FOLDER --ahead N`; between the two there is
nothing but the files that `schemas.stream` describes.
"""

import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from star_tvr.scenes.errors import DataError, printable
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.files import writing
from star_tvr.schemas.stream import Need, RendererState, session
from star_tvr.training.config import FreshConfig, TrainConfig
from star_tvr.training.curriculum import Curriculum
from star_tvr.training.errors import TrainingError
from star_tvr.training.fresh_dataset import FreshDataset, Watch
from star_tvr.training.training_rows import batch_rows

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from star_tvr.training.rewards import RewardFunction

READER = "training"
"""What a training that deletes what it has used is called as a reader: it is the only one."""

PATIENCE = 30.0
"""Seconds that a renderer has to end by itself."""


class Feeding:
    """What keeps a training in data; nothing where the data are there already.

    Of several processes the main one has the renderer; the others look at the folder.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset, args: "TrainingArguments") -> None:
        self.config, self.args = config, args
        self.dataset = dataset if isinstance(dataset, FreshDataset) else None
        self.stack = ExitStack()
        self.session = session()
        self.used = 0
        self.curriculum: Curriculum | None = None
        fresh = config.fresh
        if self.dataset is not None and fresh is not None and fresh.schedule != "uniform":
            self.curriculum = Curriculum(fresh, self.dataset, config.output_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()

    def begin(self, checkpoint: Path | None) -> None:
        """Have a renderer at work, before any weight is loaded.

        Args:
            checkpoint: where the run goes on; samples used up by then are not needed again.

        Raises:
            ConfigError: another training uses the folder.
            TrainingError: the renderer has ended, or nobody renders.
        """
        fresh, dataset = self.config.fresh, self.dataset
        if dataset is None or fresh is None:
            return
        if self.args.process_index == 0:
            step = int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
            alone = fresh.keep == 0 or self.curriculum is not None
            self.stack.enter_context(dataset.stream.reading(keep=not alone))
            if self.curriculum is not None:
                self.curriculum.begin(step)
            self.tell(step)
            if fresh.executor != "none":
                dataset.stream.renderer_file.unlink(missing_ok=True)
                renderer = RendererProcess(dataset, renderer_command(fresh, dataset.root))
                self.stack.callback(renderer.stop)
        watch = Watch(dataset.stream, fresh.patience)
        while (state := watch.look()) is None or state.state != "rendering":
            time.sleep(0.05)

    def step_end(self, step: int) -> int:
        """Do what is to be done after a step; all processes call it.

        Returns:
            The first sample that is not used up.

        Raises:
            DataError: something cannot be written.
        """
        main, fresh = self.args.process_index == 0, self.config.fresh
        if self.curriculum is not None and fresh is not None:
            # Nobody can have planned more than was asked for until now.
            self.curriculum.step_end(step, self.used + fresh.ahead, main)
        if main:
            self.tell(step)
        return self.used

    def listen(self, rewards: "list[RewardFunction]") -> "list[RewardFunction]":
        """The same reward functions, the first of which tells a curriculum what was right."""
        if self.curriculum is None:
            return rewards
        return [self.curriculum.listen(rewards[0]), *rewards[1:]]

    def tell(self, step: int) -> None:
        """Say what is used up after so many steps, and delete it unless it is kept.

        Raises:
            DataError: that cannot be written.
        """
        dataset, fresh = self.dataset, self.config.fresh
        assert dataset is not None and fresh is not None
        batch, steps = batch_rows(self.args)
        used = min(int(step / steps) * batch, dataset.rows) // dataset.each
        if step >= self.args.max_steps:
            used = dataset.end
        keep = fresh.keep == "all"
        name = self.session if keep else READER
        need = Need(session=self.session, keep=keep, used=used, end=dataset.end)
        dataset.stream.say_need(name, need)
        if not keep:
            with writing(dataset.root):
                dataset.stream.remove_before(used)
        self.used = used

    def follow(self, trainer: "Trainer") -> None:
        """Tell the renderer how far the trainer is, and log how the two get on."""
        if self.dataset is not None:
            from star_tvr.training.fresh_log import FollowTrainer

            # First of all, so that its figures are in every other log.
            callback = FollowTrainer(self.dataset, self.used, self.step_end)
            trainer.callback_handler.callbacks.insert(0, callback)


def renderer_command(fresh: FreshConfig, root: Path) -> list[str]:
    """The command that renders for a training."""
    command = [sys.executable, "-m", "star_tvr.tvr", "render", str(root), "--attached"]
    command += ["--config", fresh.config, "--seed", str(fresh.seed), "--ahead", str(fresh.ahead)]
    command += ["--executor", fresh.executor, "--device", fresh.device]
    command += [part for change in fresh.set for part in ("--set", change)]
    if fresh.workers is not None:
        command += ["--workers", str(fresh.workers)]
    return command + (["--address", fresh.address] if fresh.address is not None else [])


class RendererProcess:
    """A renderer as a child of the training's main process.

    It ends with the training, however that ends: its standard input is a pipe that breaks then. If
    it ends by itself its last words go into `stream/renderer.json`, where all processes find them.
    """

    def __init__(self, dataset: FreshDataset, command: list[str]) -> None:
        """Start it.

        Raises:
            TrainingError: there is no room for its messages.
        """
        self.stream = dataset.stream
        try:
            self.messages = tempfile.TemporaryFile("w+", errors="replace")
        except OSError as problem:
            raise TrainingError(f"TMPDIR: no file can be made ({problem.strerror})") from None
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.messages,
            start_new_session=True,  # Ctrl-C is the training's affair, which stops it
        )
        self.stopping = False
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()

    def stop(self) -> None:
        """End it; what it has rendered stays."""
        self.stopping = True
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.watcher.join()
        self.messages.close()

    def _watch(self) -> None:
        code = self.process.wait()
        if self.stopping:
            return
        self.messages.seek(0)
        lines = [line for line in self.messages.read().splitlines() if line.strip()]
        words = lines[-1].removeprefix("error: ") if lines else "without a word"
        if code < 0:
            words = f"killed by signal {-code}" + (f" (its last words: {words})" if lines else "")
        try:
            before = self.stream.state() or RendererState(state="starting")
            ended = before.model_copy(update={"state": "ended", "words": printable(words)})
            self.stream.say_state(ended)
        except DataError as problem:
            print(printable(f"{problem}"), file=sys.stderr)

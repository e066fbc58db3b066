"""How training and renderer get on, logged beside the steps of a training on fresh data."""

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from star_tvr.schemas.stream import RendererState
from star_tvr.training.fresh_dataset import FreshDataset


class FollowTrainer(TrainerCallback):
    """Moves the reader's place, and logs.

    `wait`: the share of the time that reading waited for samples. `ahead`: samples that are there
    and not used up. `samples_per_second` and `render_cpu` (seconds of a core for a question): of
    the renderer since the last log. `disk_bytes`: of all samples that are there.
    """

    def __init__(self, dataset: FreshDataset, used: int, step_end: Callable[[int], int]) -> None:
        """Prepare.

        Args:
            used: the first sample that is not used up.
            step_end: does what is to be done after so many steps, and returns that sample.
        """
        self.dataset, self.used, self.step_end = dataset, used, step_end
        self.last = self._look()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """The clock starts with the first step."""
        self.last = self._look()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Say what is used up, and what follows from the answers."""
        self.used = self.step_end(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Add the figures."""
        if logs is None or not state.is_world_process_zero:
            return
        now = self._look()
        seconds, waited, made, cpu, size = (a - b for a, b in zip(now, self.last, strict=True))
        figures = {"wait": min(1.0, waited / max(seconds, 1e-9))}
        stream, dataset = self.dataset.stream, self.dataset
        figures["ahead"] = stream.count(self.used, dataset.end)
        if made > 0:
            figures["samples_per_second"] = made / seconds
            figures["render_cpu"] = cpu / (made * dataset.each)
        if now[2]:
            figures["disk_bytes"] = stream.count(0, dataset.end) * now[4] / now[2]
        self.last = now
        logs |= figures
        state.log_history[-1] |= figures

    def _look(self) -> tuple[float, ...]:
        """Time, seconds waited, and samples, seconds and bytes of the renderer, all sums."""
        found = self.dataset.stream.state() or RendererState(state="starting")
        waited = self.dataset.waited.seconds
        return time.monotonic(), waited, found.made, found.cpu, found.bytes

"""What happens beside the steps of a training: speed, logs, progress, a stop if it went wrong."""

import math
import sys
import time
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from star_tvr.schemas.dataset import dumps_line
from star_tvr.schemas.files import write_whole
from star_tvr.training.config import TrainConfig
from star_tvr.training.errors import TrainingError
from star_tvr.training.run_folder import last_checkpoint, note_best
from star_tvr.training.sharding import local_part


def add_callbacks(trainer: Trainer, config: TrainConfig) -> None:
    """Give a trainer all of these instead of its own printing."""
    trainer.remove_callback(PrinterCallback)
    # First of all, so that its figures reach TensorBoard and the like too.
    trainer.callback_handler.callbacks.insert(0, Speed())
    trainer.add_callback(StopOnNonFinite())
    trainer.add_callback(LogFile(config.output_dir / "log.jsonl"))
    trainer.add_callback(ProgressLine(config.kind))
    trainer.add_callback(NoteBest())


class Speed(TrainerCallback):
    """Adds `tokens_per_second` to every logged step: of prompts and completions, all processes."""

    def __init__(self) -> None:
        self.last: tuple[float, float] | None = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Compare the trainer's count of tokens with the clock."""
        tokens = (logs or {}).get("num_tokens")
        if logs is None or tokens is None:
            return
        now = time.monotonic()
        if self.last is not None and now > self.last[0]:
            speed = (tokens - self.last[1]) / (now - self.last[0])
            logs["tokens_per_second"] = state.log_history[-1]["tokens_per_second"] = speed
        self.last = now, tokens

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Leave the time of a validation out."""
        if self.last is not None:
            self.last = self.last[0] + (metrics or {}).get("eval_runtime", 0.0), self.last[1]


class NoteBest(TrainerCallback):
    """Names the best checkpoint in `run.json`, as soon as it is there."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """After an interruption, that of the checkpoint."""
        self.on_save(args, state, control)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write it down."""
        if state.is_world_process_zero:
            note_best(args, state)


class StopOnNonFinite(TrainerCallback):
    """Stops a run before it stores weights that are no numbers."""

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Look at the loss and at what was trained, whenever a checkpoint is due."""
        if not control.should_save:
            return
        control.should_log = True  # the loss is looked at in LogFile, and logs come before saves
        bad = (
            name
            for name, weight in model.named_parameters()
            if weight.requires_grad and not local_part(weight).isfinite().all()
        )
        # Of weights that are divided, each process sees its own part. All stop, or none would: the
        # others would wait in the next step for those that did.
        found = [name for name in gather_object([next(bad, None)]) if name]
        if found:
            raise TrainingError(_not_finite(args, state, f"{found[0]} is"))


def _not_finite(args: TrainingArguments, state: TrainerState, what: str) -> str:
    good = last_checkpoint(Path(args.output_dir)) if state.is_world_process_zero else None
    sound = f"; {good.name} holds the last sound weights" if good else ""
    return (
        f"{args.output_dir}: {what} no longer a number at step {state.global_step}; lower "
        f"learning_rate and start again in another output_dir{sound}"
    )


class LogFile(TrainerCallback):
    """Keeps `log.jsonl`, and stops a run whose loss is no longer a number.

    After an interruption the file starts again from the checkpoint's own history, so that no step
    is in it twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start from the history in the checkpoint."""
        if state.is_world_process_zero:
            write_whole(self.path, "".join(dumps_line(line) for line in state.log_history))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Append the newest line."""
        line = state.log_history[-1]
        loss = line.get("loss")
        if isinstance(loss, float) and not math.isfinite(loss):
            raise TrainingError(_not_finite(args, state, f"the loss is {loss},"))
        if state.is_world_process_zero:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(dumps_line(line))


class ProgressLine(TrainerCallback):
    """A progress bar on a terminal, a plain line for each logged step elsewhere."""

    SHOWN = {
        "loss": "loss",
        "reward": "reward",
        "rewards/accuracy_reward/mean": "accuracy",
        "rewards/format_reward/mean": "format",
        "completions/mean_length": "tokens",
        "eval_tacc": "validation TAcc",
        "eval_reward": "reward",
        "eval_count_gap": "count gap",
    }

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: Progress | None = None
        self.began = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the bar."""
        self.began = time.monotonic()
        console = Console(stderr=True)
        if state.is_world_process_zero and console.is_terminal:
            self.bar = Progress(
                TextColumn(self.name),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=console,
            )
            self.bar.start()
            self.bar.add_task("", total=state.max_steps, completed=state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the newest figures."""
        line = state.log_history[-1]
        shown = [f"{name} {line[key]:.3g}" for key, name in self.SHOWN.items() if key in line]
        if not shown or not state.is_world_process_zero:
            return
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], description="  ".join(shown))
        else:
            seconds = time.monotonic() - self.began
            place = f"{self.name} step {state.global_step}/{state.max_steps}"
            print(f"{place}  {'  '.join(shown)}  {seconds:.0f} s", file=sys.stderr, flush=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.stop()

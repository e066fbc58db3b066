"""The command line: reads arguments, calls one function, prints what it returns."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from scenes.errors import TvrError

app = typer.Typer(
    name="tvr",
    help="Render transformation-driven visual reasoning data with Blender, and train on it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
train = typer.Typer(help="Train a vision-language model on a data set.", no_args_is_help=True)
app.add_typer(train, name="train")

T = TypeVar("T")
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key.")
]
DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="A data set folder.")]


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Render transformation-driven visual reasoning data with Blender, and train on it."""


@app.command()
def render(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the data set.")],
    config: Annotated[str, typer.Option(help="A preset, or a YAML file.")] = "star",
    set_: Overrides = None,
    num_samples: Annotated[int | None, typer.Option(min=1, help="Same as num_samples=N.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same as seed=S.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Blender processes.")] = os.cpu_count() or 1,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, optix, hip, oneapi or metal.")
    ] = "auto",
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Render only part I of N, I from 0 to N-1.")
    ] = "0/1",
) -> None:
    """Render a data set, or whatever of it is missing."""
    from generator.render import Shard, prepare
    from generator.render import render as render_samples
    from schemas.config import load_config

    extra = [f"{k}={v}" for k, v in (("num_samples", num_samples), ("seed", seed)) if v is not None]
    resolved = load_config(config, [*(set_ or []), *extra])
    part = Shard.parse(shard)
    missing = prepare(out, resolved, part)
    total = len(part.indices(resolved["num_samples"]))
    made = render_samples(out, resolved, missing, workers, device)
    frames = 0
    for sample in _progress(made, "rendering", len(missing), done=total - len(missing)):
        frames += sample.frames
    print(f"{out}: {len(missing)} samples rendered ({frames} frames), {total} there")


@app.command()
def split(
    dataset: DatasetFolder,
    scheme: Annotated[str, typer.Option(help="cross-view.")] = "cross-view",
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write splits/<scheme>/<split>.jsonl; no scene is in two splits."""
    from generator.splits import split as divide
    from schemas.dataset import Dataset

    for name, pairs in divide(Dataset.open(dataset), scheme, seed).items():
        scenes = len({p.sample for p in pairs})
        print(f"{dataset}/splits/{scheme}/{name}.jsonl: {len(pairs)} pairs of {scenes} scenes")


@app.command()
def validate(
    dataset: DatasetFolder,
    pixels: Annotated[bool, typer.Option("--pixels", help="Compare masks with geometry.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON lines.")] = False,
) -> None:
    """Check files, schemas, rules and labels; ends with 1 if anything is wrong."""
    from generator.validate import validate as check
    from schemas.dataset import Dataset

    opened = Dataset.open(dataset)
    wrong = checked = 0
    for _, findings in _progress(check(opened, pixels), "validating", len(opened.ids()) + 1):
        checked += 1
        wrong += len(findings)
        for finding in findings:
            print(json.dumps(finding.to_json()) if as_json else finding)
    if not as_json:
        print(f"{dataset}: {checked - 1} samples checked, {wrong} findings")
    if wrong:
        raise typer.Exit(1)


def _progress(items: Iterable[T], label: str, total: int, done: int = 0) -> Iterator[T]:
    """Show how far the work has come: a bar on a terminal, a line now and then elsewhere."""
    import time

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(label, total=total + done, completed=done)
            for item in items:
                bar.advance(task)
                yield item
        return
    start = shown = time.monotonic()
    for count, item in enumerate(items, start=1):
        now = time.monotonic()
        if now - shown > 10 or count == total:
            shown = now
            left = (now - start) / count * (total - count)
            print(
                f"{label}: {count + done} of {total + done}, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
        yield item


def main(arguments: list[str] | None = None) -> None:
    """The `tvr` command. Errors that a user can mend are one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        status: Any = app(arguments, standalone_mode=False)
    except TvrError as problem:
        if debug:
            raise
        print(f"error: {problem}", file=sys.stderr)
        status = problem.exit_status
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        status = 130
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()

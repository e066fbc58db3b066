"""What commands show: tables, and how far their work has come."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")


def show(*renderables: "RenderableType") -> None:
    """Print tables, as wide as the terminal or 120 columns."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120)
    for renderable in renderables:
        console.print(renderable)


def progress(
    items: Iterable[T],
    label: str,
    total: int,
    done: int = 0,
    last: bool = True,
    frames: Callable[[T], int] | None = None,
) -> Iterator[T]:
    """Show how far the work has come: a bar on a terminal, a line now and then elsewhere.

    Args:
        last: whether there is a line at the end as well.
        frames: how many frames an item is; their rate is shown, too.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    start = shown = time.monotonic()
    drawn = 0

    def rate(item: T) -> str:
        nonlocal drawn
        if frames is None:
            return ""
        drawn += frames(item)
        return f"{60 * drawn / max(time.monotonic() - start, 1e-3):.1f} frames/min"

    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(label, total=total + done, completed=done, rate="")
            for item in items:
                bar.update(task, advance=1, rate=rate(item))
                yield item
        return
    for count, item in enumerate(items, start=1):
        speed = rate(item)
        now = time.monotonic()
        if now - shown > 10 or (last and count == total):
            shown = now
            left = (now - start) / count * (total - count)
            print(
                f"{label}: {count + done} of {total + done}, {left:.0f} s left"
                + (f", {speed}" if speed else ""),
                file=sys.stderr,
                flush=True,
            )
        yield item

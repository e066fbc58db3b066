"""What commands show: tables, and how far their work has come."""

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TypeVar

from star_tvr.scenes.errors import TvrError, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

T = TypeVar("T")

PIPE_CLOSED = 128 + signal.SIGPIPE
"""The exit status of a program whose output nobody reads any more, as after `| head`."""


def open_streams() -> None:
    """Make sure that there are standard streams, and that every text can be written to them.

    Where one was closed, as by `>&-`, a file of ours would take its number.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout = sys.stdout or open(1, "w")
    sys.stderr = sys.stderr or open(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


LONGEST = 1000
"""Characters of a message, which may hold a value of any length."""


def echo(text: object, error: bool = False) -> None:
    """Print lines on standard output or standard error, without control characters.

    A message on standard error that is too long lacks its middle.
    """
    lines = list(map(printable, str(text).split("\n")))
    if error:
        half = LONGEST // 2
        lines = [s if len(s) <= LONGEST else f"{s[:half]} … {s[-half:]}" for s in lines]
    write("\n".join([*lines, ""]), sys.stderr if error else sys.stdout)


def write(text: str, stream: IO[str]) -> None:
    """Write and flush. Whoever reads it may have gone: then the command ends, as others do.

    Raises:
        TvrError: the stream cannot be written, for instance because the disk is full.
        SystemExit: with PIPE_CLOSED.
    """
    try:
        stream.write(text)
        stream.flush()
    except OSError as problem:
        # What is left in the stream's buffer must not fail again at the end of Python.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(problem, BrokenPipeError):
            raise SystemExit(PIPE_CLOSED) from None
        words = f"{stream.name}: cannot be written ({problem.strerror}); send it elsewhere"
        raise TvrError(words) from None


@contextmanager
def console() -> Iterator["Console"]:
    """A console of rich, as wide as the terminal or 120 columns; it is written at the end."""
    from rich.console import Console

    text, terminal = io.StringIO(), sys.stdout.isatty()
    yield Console(file=text, force_terminal=terminal, width=None if terminal else 120)
    write(text.getvalue(), sys.stdout)


def show(*renderables: "RenderableType") -> None:
    """Print tables without control characters."""
    from rich.segment import Segment, Segments

    with console() as output:
        for renderable in renderables:
            for line in output.render_lines(renderable, pad=False):
                parts = [Segment(printable(text), style) for text, style, _ in line]
                output.print(Segments([*parts, Segment.line()]))


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

    bars = Console(stderr=True)
    if bars.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        with Progress(*columns, console=bars) as bar:
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
            line = f"{label}: {count + done} of {total + done}, {left:.0f} s left"
            echo(f"{line}, {speed}" if speed else line, error=True)
        yield item

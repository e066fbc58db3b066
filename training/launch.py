"""Training modules as programs, for launchers such as accelerate and torchrun."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from star_tvr.scenes.errors import TvrError, printable


def run_from_command_line(
    run: Callable[[str, list[str]], Path], program: str, arguments: Sequence[str] | None
) -> int:
    """`python -m PROGRAM CONFIG [--set key=value]…`, for launchers such as accelerate.

    Returns:
        The exit status; an error is one line.
    """
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("config", help="a training configuration (YAML)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    try:
        print(run(given.config, given.set), flush=True)
        leave_process_group()
    except TvrError as problem:
        print(printable(f"{program}: {problem}"), file=sys.stderr)
        return problem.exit_status
    return 0


def leave_process_group() -> None:
    """Leave the group of processes that trained together, where there is one.

    A process that just ends takes the threads of the group with it, and sometimes aborts.
    """
    import torch.distributed as group

    if group.is_available() and group.is_initialized():
        group.barrier()
        group.destroy_process_group()

"""Ctrl-C and SIGTERM while modules are loaded: one line instead of a traceback.

It is imported first. Nothing that needs cleaning up has begun then.
"""

import os
import signal

STOPPED = "stopped; the same command goes on from here"

_former = {}


def leave(number: int, _frame: object) -> None:
    """A handler of signals that ends the process at once, in one line."""
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(128 + number)


def loaded() -> None:
    """Give the signals back: from here on a command is told of them."""
    for number, handler in _former.items():
        signal.signal(number, handler)


for _number in (signal.SIGINT, signal.SIGTERM):
    # Background jobs of a shell ignore Ctrl-C, and shall go on doing so.
    if signal.getsignal(_number) in (signal.default_int_handler, signal.SIG_DFL):
        try:
            _former[_number] = signal.signal(_number, leave)
        except ValueError:  # a thread of somebody else's program imports us
            pass

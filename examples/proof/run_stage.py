"""Runs one stage of the proof and records it. The Makefile that __main__.py writes calls this.

python -m examples.proof.run_stage PROOF NAME THREADS ARGUMENTS-OF-TVR…
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from star_tvr.schemas.dataset import dumps
from star_tvr.schemas.files import write_whole


def main() -> int:
    """The command line; returns the exit status."""
    out, name, threads, *arguments = sys.argv[1:]
    log = Path(out, "logs", f"{name}.log")
    begun = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "star_tvr.tvr", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": threads},
            close_fds=False,  # it holds the proof's lock too
        )
    # Make sends SIGTERM to this process alone; Ctrl-C reaches the command from the terminal.
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    signal.signal(signal.SIGINT, lambda *_: None)
    print(f"{name} …", flush=True)
    if status := process.wait():
        print(f"{name}: ended with status {status}; see {log}", file=sys.stderr)
        return 1
    seconds = round(time.monotonic() - begun, 1)
    record = {"seconds": seconds, "threads": int(threads), "arguments": arguments}
    write_whole(Path(out, "stages", f"{name}.json"), dumps(record))
    print(f"{name}: {seconds:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

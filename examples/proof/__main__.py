"""Runs the proof, stage by stage; what is done is not done again, and killing it loses little."""

import argparse
import fcntl
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from examples.proof import document, stages
from star_tvr.scenes.errors import TvrError
from star_tvr.schemas.checks import read_json
from star_tvr.schemas.files import write_whole


def hold(out: Path) -> TextIO:
    """Lock a proof's folder until the file is closed, here and by all that inherit it.

    Raises:
        TvrError: another proof works there.
    """
    lock = (out / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise TvrError(
            f"{out}: another proof, or a command of one that was killed, still works here; "
            "wait for it or end it"
        ) from None
    return lock


def make(
    out: Path, todo: Sequence[stages.Stage], lock: TextIO, jobs: int = 1, threads: int = 1
) -> None:
    """Let make run those stages that have no record, or one with other arguments.

    Args:
        out: the proof's folder.
        todo: all stages that belong together.
        lock: of the folder.
        jobs: stages at once.
        threads: of each.

    Raises:
        TvrError: one of them failed; those that are under way are brought to their end first.
    """
    (out / "stages").mkdir(exist_ok=True)
    (out / "logs").mkdir(exist_ok=True)
    run_stage = [sys.executable, "-m", "examples.proof.run_stage", str(out)]
    rules = ["all: " + " ".join(f"stages/{stage.name}.json" for stage in todo)]
    for stage in todo:
        record = out / "stages" / f"{stage.name}.json"
        if record.is_file() and read_json(record)["arguments"] != stage.arguments:
            record.unlink()
        # Behind `|` a record only has to be there: its age, as in a copied folder, means nothing.
        after = f"stages/{stage.after}.json" if stage.after else ""
        command = shlex.join([*run_stage, stage.name, str(threads), *stage.arguments])
        recipe = f"cd {shlex.quote(os.getcwd())} && exec {command}".replace("$", "$$")
        rules.append(f"stages/{stage.name}.json: | {after}\n\t{recipe}")
    write_whole(out / "Makefile", "\n\n".join(rules) + "\n")
    process = subprocess.Popen(
        ["make", "--silent", f"--jobs={jobs}"], cwd=out, pass_fds=[lock.fileno()]
    )
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    status = process.wait()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if status:
        raise TvrError(f"{out}: a stage was stopped, see above; the same command goes on from it")


def run(out: Path, part: str, jobs: int, scale: stages.Scale) -> Path:
    """Carry out the proof into a folder; returns its page.

    Raises:
        TvrError: a stage failed, or another proof works there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with hold(out) as lock:
        make(out, stages.data(out, jobs, scale), lock)
        for number in range(1, scale.parts + 1):
            make(out, stages.supervised(out, number, scale), lock, threads=jobs)
            metrics = read_json(out / "evaluations" / f"val-{number}" / "metrics.json")
            tacc = metrics["metrics"]["tacc"]["value"]
            print(f"sft-{number}: TAcc {100 * tacc:.1f} % on the validation scenes", flush=True)
            if tacc >= stages.SKILL:
                break
        skilled = out / f"sft-{number}"
        todo = stages.controls(out, skilled)
        for policy in [*stages.CORE, *(stages.FURTHER if part == "all" else ())]:
            todo += stages.stages_of(policy, out, skilled, scale)
        make(out, todo, lock, jobs)
        return document.write(out, out / "proof.md")


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="examples.proof", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("proof"), help="folder to work in")
    parser.add_argument("--part", choices=("core", "all"), default="core")
    parser.add_argument("--jobs", type=int, default=2, help="commands at once")
    parser.add_argument("--small", action="store_true", help="only to see whether it would run")
    given = parser.parse_args()
    try:
        print(run(given.out, given.part, given.jobs, stages.SMALL if given.small else stages.FULL))
    except TvrError as problem:
        print(f"proof: {problem}", file=sys.stderr)
        return problem.exit_status
    except OSError as problem:
        print(f"proof: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("proof: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

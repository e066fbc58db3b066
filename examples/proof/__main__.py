"""Runs the proof, stage by stage; what is done is not done again, and killing it loses little."""

import argparse
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from examples.proof import document, stages
from star_tvr.scenes.errors import TvrError
from star_tvr.schemas.checks import read_json
from star_tvr.schemas.dataset import dumps
from star_tvr.schemas.files import write_whole


class ProofError(TvrError):
    """A command of the proof failed."""


class Proof:
    """The folder of a proof and what is done of it.

    stages.json   of every command the seconds it took, its arguments, and whether it is done
    logs/         what the commands printed

    Attributes:
        out: the folder.
        jobs: commands that train or evaluate at once, each on a thread of its own.
        scale: how much of everything.
    """

    def __init__(self, out: Path, jobs: int, scale: stages.Scale) -> None:
        self.out, self.jobs, self.scale = out, jobs, scale
        out.mkdir(parents=True, exist_ok=True)
        # The commands inherit it: those of a proof that was killed still hold it.
        self.held = (out / ".lock").open("w")
        try:
            fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProofError(
                f"{out}: another proof, or a command of one that was killed, still works here; "
                "wait for it or end it"
            ) from None
        self.start = time.monotonic()
        self.lock = threading.Lock()
        record = out / "stages.json"
        self.done: dict[str, dict[str, Any]] = read_json(record) if record.is_file() else {}

    def run(self, arguments: list[str], threads: int = 1) -> None:
        """Run one command, unless it is done.

        Raises:
            ProofError: it failed; the message names its log.
        """
        name = name_of(arguments)
        stored = self.done.get(name, {})
        same = stored.get("arguments") == arguments
        if same and stored["done"]:
            return
        earlier = float(stored["seconds"]) if same else 0.0
        log = self.out / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self.say(f"{name} …")
        begun = time.monotonic()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "star_tvr.tvr", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[self.held.fileno()],
            )
        status = None
        while status is None:
            status = self.wait(process)
            record = {
                "seconds": round(earlier + time.monotonic() - begun, 1),
                "threads": threads,
                "done": status == 0,
                "arguments": arguments,
            }
            with self.lock:
                self.done[name] = record
                write_whole(self.out / "stages.json", dumps(self.done))
            if status is None:
                self.say(f"{name}: {last_line(log)}")
        if status:
            raise ProofError(f"{name}: ended with status {status}; see {log}")
        self.say(f"{name}: {record['seconds']:.0f} s")

    def wait(self, process: subprocess.Popen[bytes]) -> int | None:
        """The exit status of a process, or None if it has not ended within a minute."""
        try:
            return process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            return None

    def say(self, text: str) -> None:
        """Print a line with the minutes since the start."""
        # One write: threads share the terminal.
        sys.stdout.write(f"{(time.monotonic() - self.start) / 60:5.1f} min  {text}\n")
        sys.stdout.flush()

    def skilled(self) -> Path:
        """Train by supervision until the skill is reached; returns the model's folder."""
        for part in range(1, self.scale.parts + 1):
            for command in stages.steps_of_skill(self.out, part, self.scale):
                self.run(command, threads=self.jobs)
            folder = self.out / f"sft-{part}"
            metrics = read_json(self.out / f"evaluations/val-{part}/metrics.json")
            tacc = metrics["metrics"]["tacc"]["value"]
            self.say(f"{folder.name}: TAcc {100 * tacc:.1f} % on the validation scenes")
            if tacc >= stages.SKILL:
                break
        return folder

    def together(self, chains: Iterable[Sequence[list[str]]]) -> None:
        """Run chains of commands, several chains at once, in their order.

        Raises:
            ProofError: a command failed; chains that are under way are brought to their end first.
        """
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                for done in as_completed([pool.submit(self.chain, chain) for chain in chains]):
                    done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def chain(self, commands: Sequence[list[str]]) -> None:
        """Run commands one after the other."""
        for command in commands:
            self.run(command)


def last_line(log: Path) -> str:
    """What a command printed last; its progress ends in returns instead of new lines."""
    lines = log.read_text(errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def name_of(arguments: list[str]) -> str:
    """A name for a command: its first words and the folder that it fills.

    >>> name_of(["render", "proof/same-view", "--seed", "0"])
    'render same-view'
    """
    if arguments[0] == "evaluate":
        return f"evaluate {Path(arguments[arguments.index('--out') + 1]).name}"
    if arguments[0] == "train":
        [folder] = [a for a in arguments if a.startswith("output_dir=")]
        return f"train {Path(folder.removeprefix('output_dir=')).name}"
    return f"{arguments[0]} {Path(arguments[1]).name}"


def run(out: Path, part: str, jobs: int, scale: stages.Scale = stages.FULL) -> None:
    """Carry out the proof into a folder.

    Raises:
        ProofError: a command failed.
    """
    proof = Proof(out, jobs, scale)
    for command in stages.data(out, jobs, scale):
        proof.run(command)
    skilled = proof.skilled()
    policies = [*stages.CORE, *(stages.FURTHER if part == "all" else ())]
    chains = {p: stages.commands(p, out, skilled, scale) for p in policies}
    first = [chain for policy, chain in chains.items() if not policy.start]
    proof.together([*stages.controls(out, skilled), *first])
    proof.together([chain for policy, chain in chains.items() if policy.start])
    proof.say(str(document.write(out, out / "proof.md")))


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="examples.proof", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("proof"), help="folder to work in")
    parser.add_argument("--part", choices=("core", "all"), default="core")
    parser.add_argument("--jobs", type=int, default=2, help="commands at once")
    parser.add_argument("--small", action="store_true", help="only to see whether it would run")
    given = parser.parse_args()
    try:
        run(given.out, given.part, given.jobs, stages.SMALL if given.small else stages.FULL)
    except TvrError as problem:
        print(f"proof: {problem}", file=sys.stderr)
        return problem.exit_status
    except OSError as problem:
        print(f"proof: --out {given.out}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("proof: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

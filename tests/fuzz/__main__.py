"""Mutated inputs through the command line, and a table of what fell."""

import argparse
import hashlib
import importlib
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tests.fuzz.sandbox import Case, Outcome

CORPUS = Path(__file__).parent / "corpus"
LARGEST = 40_000
"""Bytes of an input that is worth a file in the corpus."""


def main() -> int:
    """Run inputs; 1 if one of them fell."""
    # Before numpy or torch are imported: a process that has threads cannot be forked.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "NO_PROXY": "*"}
    from tests.fuzz.kinds import CORE, KINDS
    from tests.fuzz.sandbox import Case

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="stored inputs, such as the corpus")
    parser.add_argument("--inputs", type=int, help="fresh ones over all kinds; 20000 without files")
    parser.add_argument("--seed", type=int, help="by default another one every time")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this; repeatable")
    parser.add_argument("--only", type=int, metavar="N", help="only input N; show what it says")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument(
        "--save", action="store_true", help="add to the corpus: one input of a cause"
    )
    parser.add_argument("--table", action="store_true", help="the table alone, as markdown")
    options = parser.parse_args()
    stored = [Case.from_json(json.loads(path.read_text())) for path in options.files]
    kinds: list[str] = options.kind or list(KINDS)
    if options.files and not options.inputs:
        kinds = sorted({case.name.split()[0] for case in stored})
    start = os.times().elapsed
    seed = options.seed if options.seed is not None else int(time.time())
    for library in dict.fromkeys([*CORE, *(m for kind in kinds for m in KINDS[kind].libraries)]):
        importlib.import_module(library)
    with tempfile.TemporaryDirectory(prefix="fuzz-originals-") as folder:
        originals = Path(folder)
        _in_a_fork(originals, {name for kind in kinds for name in _names(kind)})
        _warm_up(originals / "data")
        inputs = [*stored, *_numbers(options, kinds, seed)]
        failed = _report(_attacks(inputs, originals, options.workers), options, seed)
    used = os.times()
    if not options.table:
        total = used.user + used.system + used.children_user + used.children_system
        print(
            f"{len(inputs)} inputs, {total:.0f} s of processor time, {used.elapsed - start:.0f} s"
        )
    return 1 if failed else 0


def _names(kind: str) -> set[str]:
    """The originals that a kind needs."""
    from tests.fuzz.kinds import KINDS

    return {*KINDS[kind].needs, *(f.partition("/")[0] for f in KINDS[kind].files)}


def _in_a_fork(root: Path, names: set[str]) -> None:
    """Make the originals where threads, which libraries start when they work, do no harm."""
    from tests.fuzz.originals import make_originals

    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(root)
            os.dup2(os.open("output", os.O_WRONLY | os.O_CREAT), 1)
            os.dup2(1, 2)
            make_originals(Path(), names)
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit((root / "output").read_text()[-3000:])


def _warm_up(data: Path) -> None:
    """Load what every command loads when it is first used, so that not every child has to."""
    import PIL.Image

    from star_tvr.schemas.config import load_config, preset_names
    from star_tvr.schemas.dataset import Dataset

    PIL.Image.init()
    for name in preset_names():
        load_config(name)
    dataset = Dataset.open(data)
    for sample in dataset.ids():
        dataset.sample(sample)
    for name in dataset.split_names():
        dataset.split(name)


Input: TypeAlias = "tuple[str, int, int] | Case"
"""Kind, seed and number, or an input that was stored."""


def _numbers(options: argparse.Namespace, kinds: Sequence[str], seed: int) -> list[Input]:
    """The fresh inputs, those of all kinds mixed."""
    from tests.fuzz.kinds import KINDS

    if options.only is not None:
        return [(kind, seed, options.only) for kind in kinds]
    if options.files and not options.inputs:
        return []
    total = sum(KINDS[kind].weight for kind in kinds)
    share = {k: max(1, (options.inputs or 20_000) * KINDS[k].weight // total) for k in kinds}
    numbers: list[Input] = [
        (k, seed, n) for k in kinds for n in range(min(share[k], KINDS[k].most))
    ]
    random.Random(seed).shuffle(numbers)
    return numbers


def _attacks(inputs: Sequence[Input], originals: Path, workers: int) -> Iterator["Outcome"]:
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        try:
            yield from pool.map(partial(_attack, originals), inputs)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # and the table of what was tried


def _attack(originals: Path, given: Input) -> "Outcome":
    from tests.fuzz.kinds import make_case
    from tests.fuzz.sandbox import attack

    return attack(make_case(*given, originals) if isinstance(given, tuple) else given, originals)


def _report(outcomes: Iterator["Outcome"], options: argparse.Namespace, seed: int) -> int:
    """Print every kind of failure when it is first seen, and the table; how many failed."""
    tried: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    work: Counter[str] = Counter()
    causes: dict[str, list[str]] = defaultdict(list)
    for outcome in outcomes:
        kind = outcome.case.name.split()[0]
        tried[kind] += 1
        work[kind] += round(outcome.work * 1000)
        failed[kind] += bool(outcome.problems)
        for problem in outcome.problems:
            name = f"{kind}: {cause(problem)}"
            causes[name].append(reproduction(outcome.case))
            if len(causes[name]) == 1:
                if not options.table:
                    print(f"{kind}: {problem}\n      {causes[name][0]}", flush=True)
                if options.save:
                    _save(outcome)
        if options.only is not None:
            print(*outcome.case.command, {p: str(c)[:300] for p, c in outcome.case.changes.items()})
            print(outcome.output, f"status {outcome.status}, {outcome.seconds:.1f} s", sep="\n")
    if not options.table:
        for name, commands in sorted(causes.items(), key=lambda item: -len(item[1])):
            print(f"{len(commands):5} {name}\n      {commands[0]}")
    print(f"seed {seed}\n\n| kind | tried | failed | CPU ms each |\n|---|---|---|---|")
    for kind, number in sorted(tried.items()):
        print(f"| {kind} | {number} | {failed[kind]} | {work[kind] // number} |")
    print(f"| all | {tried.total()} | {failed.total()} | {work.total() // tried.total()} |")
    return failed.total()


def cause(problem: str) -> str:
    """A problem without the numbers and names of its input, so that equal ones can be counted."""
    place = re.search(r"\[\S+:\d+\]$", problem)
    words = problem.partition(": ")[0] if place else problem
    short = re.sub(r"[0-9]+|'[^']*'|out/\S*", "…", words)[:100]
    return f"{short} {place[0]}" if place else short


def reproduction(case: "Case") -> str:
    """The command that tries an input again."""
    kind, *given = case.name.split()
    fresh = f"--kind {kind} --seed {given[0]} --only {given[-1]}"
    return f"python -m tests.fuzz {fresh if len(given) > 1 else given[0]}"


def _save(outcome: "Outcome") -> None:
    """A file of the corpus, if it is small."""
    kind = outcome.case.name.split()[0]
    document = outcome.case.to_json()
    digest = hashlib.blake2b(json.dumps(document["changes"]).encode(), digest_size=4).hexdigest()
    path = CORPUS / f"{kind}-{digest}.json"
    document |= {"name": f"{kind} {os.path.relpath(path)}", "fell": outcome.problems}
    text = json.dumps(document, indent=1)
    if len(text) <= LARGEST:
        CORPUS.mkdir(exist_ok=True)
        path.write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(main())

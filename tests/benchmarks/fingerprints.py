"""Hashes of what a change of the code alone must leave as it is: plans, pictures, labels, rewards.

python -m tests.benchmarks.fingerprints [--plans 300] [--samples 3] [--presets star trance …]

Run it before and after; equal lines mean that every byte is equal.
"""

import argparse
import hashlib
import itertools
import random
import re
import tempfile
from pathlib import Path

from star_tvr.schemas.config import preset_names
from star_tvr.training.rewards import PRESETS, score
from tests.generator.command import sets, tvr

SMALL = sets("image.width=160", "image.height=120")
VALUES = {
    "color": ("red", "cyan", "blue"),
    "shape": ("cube", "sphere"),
    "size": ("small", "large"),
    "material": ("metal", "glass"),
    "position": ("front.1", "left.2"),
}
FORMS = ("<think>x</think><answer>{}</answer>", "<answer>{}</answer>", "{}")


def of_files(paths: list[Path]) -> str:
    """A hash of files in the order of their names, rendering times left out."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(re.sub(rb'"seconds": [0-9.e-]+', b"", path.read_bytes()))
    return digest.hexdigest()[:16]


def of_preset(folder: Path, preset: str, plans: int, samples: int) -> list[str]:
    """Hashes of a preset's plans, pictures and sample.json files."""
    planned, rendered = folder / f"{preset}-plans", folder / preset
    draft = ("--quality", "draft", *SMALL)
    for out, number, options in ((planned, plans, ("--plan-only",)), (rendered, samples, draft)):
        count = ("--num-samples", str(number))
        done = tvr("render", out, "--config", preset, *count, *options, timeout=None)
        assert done.returncode == 0, done.stderr
    parts = [list(planned.glob("plans/*.jsonl"))]
    parts += [list(rendered.rglob(f"samples/*/*/{name}")) for name in ("*.png", "sample.json")]
    return [of_files(paths) for paths in parts]


def of_rewards(count: int = 20_000) -> str:
    """A hash of the rewards of random answers, by every preset and both matchings."""
    draw, digest = random.Random(7), hashlib.sha256()

    def triplet() -> str:
        attribute = draw.choice(list(VALUES))
        return f"{draw.randrange(4)}.{attribute}.{draw.choice(VALUES[attribute])}"

    for _ in range(count):
        drawn = (triplet() for _ in itertools.count())
        wanted, true = draw.randint(1, 4), dict[tuple[str, ...], str]()
        while len(true) < wanted:
            t = next(drawn)
            true[tuple(t.split(".")[:2])] = t
        truth = list(true.values())
        answer = [draw.choice([triplet(), "junk", truth[0]]) for _ in range(draw.randrange(6))]
        completion = draw.choice(FORMS).format(", ".join(answer))
        for preset in PRESETS:
            for matching in ("one-to-one", "independent"):
                found = score(completion, truth, preset, matching)
                digest.update(f"{found.format:.12g} {found.accuracy:.12g}\n".encode())
    return digest.hexdigest()[:16]


def main() -> None:
    """Print a line for every preset, and one for the rewards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=300)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--presets", nargs="*", default=preset_names())
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for preset in asked.presets:
            hashes = of_preset(Path(folder), preset, asked.plans, asked.samples)
            names = ("plans", "images", "sample.json")
            print(preset, *(f"{n} {h}" for n, h in zip(names, hashes, strict=True)), flush=True)
    print("rewards", of_rewards(), flush=True)


if __name__ == "__main__":
    main()

"""Whether two data sets share scenes, or answers more often than chance has it.

A model that is trained on one and tested on the other would be asked what it was told.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from star_tvr.generator.plan_files import samples_or_plans
from star_tvr.generator.validate import Finding
from star_tvr.scenes.plan import Plan
from star_tvr.schemas.dataset import Dataset

RARE = 1e-6
"""How unlikely as many equal answers have to be to be reported."""

_POSITIONS, _SCENE, _ANSWER = range(3)


@dataclass(frozen=True)
class Overlap:
    """What of one data set is in another.

    Attributes:
        samples: of the first data set.
        positions: of them, those whose objects stand where those of a sample of the other do.
        scenes: of these, those whose objects also look the same at the start.
        numbers: samples that both have under the same number.
        answers: of these, those with the same answer in both.
        expected: how many there would be by chance.
    """

    samples: int
    positions: int
    scenes: int
    numbers: int
    answers: int
    expected: float

    def words(self) -> Iterator[str]:
        """What should not be."""
        if self.positions:
            yield (
                f"objects stand at the same places in {self.positions} of {self.samples} samples, "
                f"and are the same objects in {self.scenes}; use another seed"
            )
        if self.answers and _tail(self.answers, self.expected) < RARE:
            yield (
                f"{self.answers} of {self.numbers} samples of the same number have the same answer "
                f"({self.expected:.1f} would by chance); use another seed"
            )


def shared_content(first: Dataset, second: Dataset) -> list[Finding]:
    """What two data sets share and should not. Raises DataError, as `overlap`."""
    where = f"against {second.root}"
    return [Finding("data set", where, words) for words in overlap(first, second).words()]


def overlap(first: Dataset, second: Dataset) -> Overlap:
    """Compare all samples, rendered or only planned.

    Raises:
        DataError: a sample cannot be read.
    """
    there: tuple[set[bytes], set[bytes]] = (set(), set())
    answers: dict[str, bytes] = {}
    for sample in samples_or_plans(second):
        facts = _facts(sample.plan)
        for known, fact in zip(there, facts, strict=False):
            known.add(fact)
        answers[sample.id] = facts[_ANSWER]
    shared = [0, 0]
    pairs = []
    samples = 0
    for sample in samples_or_plans(first):
        samples += 1
        facts = _facts(sample.plan)
        for k, (known, fact) in enumerate(zip(there, facts, strict=False)):
            shared[k] += fact in known
        if sample.id in answers:
            pairs.append((facts[_ANSWER], answers[sample.id]))
    ours, theirs = (Counter(pair[k] for pair in pairs) for k in (0, 1))
    return Overlap(
        samples=samples,
        positions=shared[_POSITIONS],
        scenes=shared[_SCENE],
        numbers=len(pairs),
        answers=sum(a == b for a, b in pairs),
        expected=sum(n * theirs[a] for a, n in ours.items()) / max(1, len(pairs)),
    )


def _facts(plan: Plan) -> tuple[bytes, bytes, bytes]:
    """Hashes of where the objects are, of the initial state, and of the answer in any order."""
    places = [(o.x, o.y, o.rotation) for o in plan.initial]
    triplets = sorted(map(str, plan.transformations))
    parts = (repr(places), repr(plan.initial), repr(triplets))
    a, b, c = (hashlib.blake2b(part.encode(), digest_size=8).digest() for part in parts)
    return a, b, c


def _tail(found: int, expected: float) -> float:
    """The probability of as many or more, if they come at random (Poisson)."""
    below = (math.exp(k * math.log(expected) - expected - math.lgamma(k + 1)) for k in range(found))
    return max(0.0, 1 - sum(below)) if expected > 0 else 0.0

"""Reasoning written from the ground truth. trace_checker.py reads it, and a model's, again.

The three steps are those of STAR-R1's cold start (CVPR 2026 version of arXiv 2505.15804): for each
picture reference objects and relation triplets, then who is who across the pictures, then the
comparison object by object. The paper's texts come from a closed model and are filtered by their
answer; these come from the scene, so every statement is true. docs/traces.md gives the language.

In the first picture objects have their index. In the second one they are not known yet: they are
letters, A being the leftmost, until the map says which letter is which index.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from star_tvr.scenes.language import LOOKS_IN_WORDS, object_words
from star_tvr.scenes.seeds import Key, stream
from star_tvr.training.config import TraceConfig
from star_tvr.training.scene_facts import RELATIONS, Facts, SceneGraph

T = TypeVar("T")


class _Words(NamedTuple):
    """The phrasings of a style; each is chosen anew for every sample, or every statement."""

    heads: tuple[tuple[str, ...], ...]
    reference: tuple[str, ...]
    references: tuple[str, ...]
    attributes: tuple[str, ...]
    relation: str
    same: tuple[str, ...]
    change: tuple[str, ...]
    move: tuple[str, ...]
    unchanged: tuple[str, ...]
    absent: tuple[str, ...]
    end: str


_FULL = _Words(
    heads=(
        ("In the first picture,", "First picture:", "Picture 1, before the changes:"),
        ("In the second picture,", "Second picture:", "Picture 2, after the changes:"),
        ("Across the pictures:", "Who is who:", "Matching both pictures:"),
        ("Compared one by one:", "Object by object:", "What became of each:"),
    ),
    reference=("I take {} as the reference", "the reference object is {}", "reference: {}"),
    references=("I take {} as references", "the reference objects are {}", "references: {}"),
    attributes=("{0} is a {1}", "object {0} is the {1}", "{0}: {1}"),
    relation="[{}, {}, {}]",
    same=("{} is {}", "{} is object {}", "{} = {}"),
    change=(
        "{0}: {1} {2} -> {3}",
        "{0} changes its {1} from {2} to {3}",
        "the {1} of {0} was {2} and is now {3}",
    ),
    move=("{0}: position -> {1}", "{0} moves {1}"),
    unchanged=("{} is unchanged", "{} stays the same", "{}: unchanged"),
    absent=("{} is not in the {} picture",),
    end=".",
)

_COMPACT = _Words(
    heads=(("first",), ("second",), ("",), ("",)),
    reference=("references {}",),
    references=("references {}",),
    attributes=("{0}: {1}",),
    relation="[{} {} {}]",
    same=("{}={}",),
    change=("{0}: {1} {2}->{3}",),
    move=("{0}: position->{1}",),
    unchanged=("{}: unchanged",),
    absent=("{} not in {}",),
    end="",
)


def write_trace(facts: Facts, config: TraceConfig, seed: int, *keys: Key) -> str:
    """The reasoning of one pair, four lines of it: each picture, the map, the comparison.

    Objects that a picture does not show are not named as being in it. The wording, and the choice
    where there is one, depend on `(seed, *keys)` alone.

    Args:
        facts: what is true.
        config: the style (`answer` gives no reasoning at all) and the limits of length.
        seed, keys: of the choice among wordings, reference objects and relations.
    """
    if config.style == "answer":
        return ""
    if config.style == "attributes":
        return _attributes(facts)
    return _Writer(facts, config, stream(seed, "trace", *keys)).write()


def _attributes(facts: Facts) -> str:
    """`second 0: small red, 1: large blue`: objects by index, as the second picture shows them."""
    attributes = [a for a in LOOKS_IN_WORDS if a in facts.attributes] or LOOKS_IN_WORDS
    seen = facts.pictures[1].seen
    words = (f"{i}: {' '.join(getattr(seen[i], a) for a in attributes)}" for i in sorted(seen))
    return f"{_COMPACT.heads[1][0]} {', '.join(words)}".strip()


class _Writer:
    """Writes one reasoning."""

    def __init__(self, facts: Facts, config: TraceConfig, random: np.random.Generator) -> None:
        self.facts, self.config, self.random = facts, config, random
        self.words = _FULL if config.style == "trace" else _COMPACT
        self.references = sorted(self.some(sorted(facts.anchors), config.references))
        first, second = facts.pictures
        must = facts.changed | set(self.references)
        others = self.some(sorted((first.seen.keys() | second.seen.keys()) - must))
        room = max(0, config.objects - len(must))
        self.named = sorted(must) + sorted(others[:room])
        in_second = sorted((i for i in self.named if i in second.seen), key=second.left.__getitem__)
        self.letters = {index: chr(ord("A") + k) for k, index in enumerate(in_second)}

    def some(self, items: Sequence[T], count: int | None = None) -> list[T]:
        """Some of the items, in random order."""
        return [items[k] for k in self.random.permutation(len(items))[:count]]

    def one(self, items: Sequence[T]) -> T:
        return items[int(self.random.integers(len(items)))]

    def write(self) -> str:
        lines = [
            self.sentence(0, [*self.list_references(), *self.picture(0)]),
            self.sentence(1, self.picture(1)),
            self.sentence(2, self.map()),
            self.sentence(3, self.comparison()),
        ]
        return "\n".join(filter(None, lines))

    def sentence(self, step: int, statements: Sequence[str]) -> str:
        if not statements:
            return ""
        head = self.one(self.words.heads[step])
        joined = ("; " if self.words is _FULL else ", ").join(statements)
        return f"{head} {joined}{self.words.end}".strip()

    def list_references(self) -> list[str]:
        names = [str(i) for i in self.references]
        joined = (", " if len(names) > 2 else " and ").join(names)
        if self.words is _COMPACT:
            joined = " ".join(names)
        patterns = self.words.references if len(names) > 1 else self.words.reference
        return [self.one(patterns).format(joined)] if names else []

    def picture(self, image: int) -> list[str]:
        """Appearance and relations. That of the first picture is known from the question."""
        picture = self.facts.pictures[image]
        seen = [i for i in self.named if i in picture.seen]
        name = {i: str(i) for i in seen} if image == 0 else self.letters
        described = seen if image else [i for i in self.references if i in picture.seen]
        if image == 0 and self.config.boxes:
            described = [i for i in seen if i in self.references or i in self.facts.changed]
        elif image == 0 and self.words is _COMPACT:
            described = []
        pattern = self.one(self.words.attributes)
        statements = [
            pattern.format(name[i], object_words(picture.seen[i])) + self.box(picture, i)
            for i in sorted(described, key=name.__getitem__)
        ]
        triplets = [
            self.words.relation.format(name[a], relation, name[b])
            for a, relation, b in self.relations(picture, seen)
        ]
        return statements + ([" ".join(triplets)] if triplets else [])

    def box(self, picture: SceneGraph, index: int) -> str:
        if not self.config.boxes or index not in picture.boxes:
            return ""
        return " at [{}, {}, {}, {}]".format(*picture.boxes[index])

    def relations(self, picture: SceneGraph, seen: Sequence[int]) -> list[tuple[int, str, int]]:
        """One relation to a reference for each object, those that change first."""
        found: list[tuple[int, str, int]] = []
        candidates = sorted(self.some(seen), key=lambda i: i not in self.facts.changed)
        for index in candidates:
            true = [
                (index, relation, reference)
                for reference in self.references
                for relation in RELATIONS
                if picture.clear(index, relation, reference)
                and not any({index, reference} == {a, b} for a, _, b in found)
            ]
            if true:
                found.append(self.one(true))
        return found[: self.config.relations]

    def map(self) -> list[str]:
        pattern = self.one(self.words.same)
        return [pattern.format(letter, index) for index, letter in self.letters.items()]

    def comparison(self) -> list[str]:
        first, second = self.facts.pictures
        statements = []
        for i in sorted(self.named):
            changes = [t for t in self.facts.changes if t.object == i]
            if i not in first.boxes:
                statements.append(self.one(self.words.absent).format(i, "first"))
            elif i not in second.boxes and changes:
                statements.append(self.one(self.words.absent).format(i, "second"))
            for t in changes:
                if t.attribute == "position":
                    statements.append(self.one(self.words.move).format(i, t.value))
                else:
                    old = getattr(self.facts.initial[i], t.attribute)
                    statements.append(
                        self.one(self.words.change).format(i, t.attribute, old, t.value)
                    )
            if not changes and i in first.seen and i in second.seen:
                statements.append(self.one(self.words.unchanged).format(i))
        return statements

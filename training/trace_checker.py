"""Reads reasoning, ours or a model's, and compares every statement with the scene.

docs/traces.md gives the language, which traces.py writes.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from star_tvr.scenes.states import SceneObject
from star_tvr.scenes.transformations import Transformation
from star_tvr.scenes.world import APPEARANCE, World
from star_tvr.training.scene_facts import Box, Facts

MAX_READ = 20_000
"""Characters of a reasoning that are read."""

SAME_BOX = 0.5
"""Intersection over union from which on a box counts as right (PASCAL VOC)."""

_OPPOSITE = {"right": "left", "front": "behind"}

Kind = Literal[
    "reference", "attributes", "box", "relation", "same", "change", "unchanged", "absent"
]


class Statement(NamedTuple):
    """Something that a reasoning says, and whether it is true.

    Attributes:
        kind: what it is about.
        text: as it stands in the reasoning.
        true: whether the scene agrees.
        picture: 0 or 1; None if it is about both.
        objects: indices of the objects it is about, as far as they are known.
        overlap: intersection over union of a box with the true one, 0 to 1; else None.
    """

    kind: Kind
    text: str
    true: bool
    picture: int | None
    objects: tuple[int | None, ...]
    overlap: float | None = None


@dataclass(frozen=True)
class TraceReport:
    """What a reasoning says, each statement once however often it is repeated.

    Attributes:
        statements: in the order of the text.
        unparsed: sentences without any statement that the checker reads, and letters of which
            nothing is said that could be checked.
    """

    statements: tuple[Statement, ...]
    unparsed: int

    @property
    def true(self) -> int:
        """Statements that are true."""
        return sum(s.true for s in self.statements)

    @property
    def false(self) -> int:
        """Statements that are false."""
        return len(self.statements) - self.true


def check_trace(reasoning: str, facts: Facts) -> TraceReport:
    """Read a reasoning, ours or a model's, and compare every statement with the scene.

    A letter stands for the object that the reasoning itself maps it to. Time is linear in the
    length of the text, of which the first `MAX_READ` characters are read.
    """
    return _Checker(facts).check(reasoning[:MAX_READ])


def reasoning_of(completion: str) -> str:
    """What stands between the first `<think>` and the `</think>` after it; "" if there is none."""
    start = completion.find("<think>")
    end = completion.find("</think>", start)
    return completion[start + len("<think>") : end] if 0 <= start < end else ""


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1.

    >>> overlap((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    union = sum(max(0, c[2] - c[0]) * max(0, c[3] - c[1]) for c in (a, b)) - shared
    return shared / union if union > 0 else 0.0


class _Grammar:
    """Finds the statements of one vocabulary in a text.

    Every form of a statement is a regular expression with named groups; all of them together, in
    this order, are tried at every place of the text.
    """

    def __init__(self, world: World) -> None:
        values = {v for a in APPEARANCE for v in world.values(a)} | {"grey"}
        word = f"(?:{_any(values)})(?!-?\\w)"
        name = r"\b(?:[Oo]bject )?(?:[0-9]{1,4}|[A-Z])\b"
        names = rf"{name}(?:(?:,? and |, | ){name}(?!:| is\b))*"
        attribute = f"(?P<attribute>{_any(APPEARANCE)})"
        triplet = "(?P<relation>left|right|front|behind)"
        comma = r"(?:\s*,\s*|\s+)"
        box = r"\[\s*[0-9]{1,5}(?:\s*,\s*[0-9]{1,5}){3}\s*\]"
        subject, other, old, new = (
            f"(?P<a>{name})",
            f"(?P<b>{name})",
            f"(?P<old>{word})",
            f"(?P<new>{word})",
        )
        moves = f"(?P<new>{_any(world.values('position'))})(?!-?\\w)"
        forms = [
            ("change", rf"(?i:\bthe ){attribute} of {subject} was {old} and is now {new}"),
            ("change", rf"{subject} changes its {attribute} from {old} to {new}"),
            ("change", rf"{subject}: {attribute} {old}\s*->\s*{new}"),
            ("move", rf"{subject}(?:: position\s*->\s*| moves ){moves}"),
            ("unchanged", rf"{subject}(?: is unchanged| stays the same|: unchanged)\b"),
            (
                "absent",
                rf"{subject} (?:is )?not in (?:the )?(?P<image>first|second)\b(?: picture)?",
            ),
            ("same", r"\b(?P<letter>[A-Z])(?: is (?:object )?|\s*=\s*)(?P<index>[0-9]{1,4})\b"),
            (
                "attributes",
                rf"{subject}(?: is (?:an? |the )?|: )(?P<words>{word}(?: {word}){{0,3}})"
                rf"(?: at (?P<box>{box}))?",
            ),
            ("relation", rf"\[\s*{subject}{comma}{triplet}{comma}{other}\s*\]"),
            ("relation", rf"\[\s*{subject}{comma}{other}{comma}{triplet}\s*\]"),
            ("reference", rf"(?i:\btake) (?P<names>{names}) as (?:the )?references?\b"),
            ("reference", rf"(?i:\breferences?(?: objects?)?(?: are| is|:)? )(?P<names>{names})"),
            ("head", r"(?i:\b(?:(?P<image>first|second)\b|picture (?P<number>[12])\b))"),
        ]
        self.kinds = [kind for kind, _ in forms]
        self.forms = [re.compile(form) for _, form in forms]
        plain = (re.sub(r"\(\?P<\w+>", "(?:", form) for _, form in forms)
        self.all = re.compile("|".join(f"({form})" for form in plain))

    def find(self, text: str) -> Iterator[tuple[str, re.Match[str], tuple[int, int]]]:
        """Every statement: its kind, its form's match with the named groups, and its place."""
        for match in self.all.finditer(text):
            k = (match.lastindex or 1) - 1
            inner = self.forms[k].fullmatch(match[0])
            if inner is not None:
                yield self.kinds[k], inner, match.span()


_grammars: dict[tuple[tuple[str, ...], ...], _Grammar] = {}


def _grammar(world: World) -> _Grammar:
    """The grammar of a vocabulary, made once."""
    key = tuple(tuple(world.values(a)) for a in (*APPEARANCE, "position"))
    if key not in _grammars:
        _grammars[key] = _Grammar(world)
    return _grammars[key]


def _any(words: Iterable[str]) -> str:
    """A regular expression for any of the words, the longest that fits."""
    return "|".join(map(re.escape, sorted(words, key=lambda w: (-len(w), w))))


class _Checker:
    """Compares what was said with the facts."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.letters: dict[str, int] = {}
        self.described: dict[str, bool] = {}
        self.statements: dict[tuple[Any, ...], Statement] = {}
        self.unparsed = 0

    def check(self, text: str) -> TraceReport:
        said = list(_grammar(self.facts.world).find(text))
        for kind, match, _ in said:
            if kind == "same":
                self.letters.setdefault(match["letter"], int(match["index"]))
        image = 0
        for kind, match, _ in said:
            if kind == "head":
                image = int(
                    match["image"].lower() == "second" if match["image"] else match["number"] == "2"
                )
            elif kind != "same":
                getattr(self, kind)(match, image)
        for kind, match, _ in said:
            if kind == "same":
                self.same(match)
        spans = [span for _, _, span in said]
        return TraceReport(tuple(self.statements.values()), self.unparsed + _unread(text, spans))

    def add(
        self,
        key: tuple[Any, ...],
        kind: Kind,
        match: re.Match[str],
        true: bool,
        picture: int | None,
        *objects: int | None,
        overlap: float | None = None,
    ) -> None:
        statement = Statement(kind, match[0], true, picture, objects, overlap)
        self.statements.setdefault((kind, picture, *key), statement)

    def who(self, name: str, image: int) -> tuple[int | None, int]:
        """The index a name stands for, if it is known, and the picture it is about."""
        name = _bare(name)
        return (int(name), image) if name.isdigit() else (self.letters.get(name), 1)

    def reference(self, match: re.Match[str], image: int) -> None:
        for name in re.findall(r"\b(?:[0-9]{1,4}|[A-Z])\b", match["names"]):
            index, _ = self.who(name, image)
            self.add((index, name), "reference", match, index in self.facts.anchors, None, index)

    def attributes(self, match: re.Match[str], image: int) -> None:
        name = _bare(match["a"])
        index, image = self.who(name, image)
        picture = self.facts.pictures[image]
        obj = None if index is None else picture.seen.get(index)
        words = ["gray" if word == "grey" else word for word in match["words"].split()]
        true = obj is not None and _fits(obj, words, self.facts.world)
        self.add((name, *words), "attributes", match, true, image, index)
        self.described[name] = self.described.get(name, True) and true
        if match["box"]:
            x0, y0, x1, y1 = map(int, re.findall("[0-9]+", match["box"]))
            right = None if index is None else picture.boxes.get(index)
            shared = overlap((x0, y0, x1, y1), right) if right else 0.0
            self.add((name,), "box", match, shared >= SAME_BOX, image, index, overlap=shared)

    def relation(self, match: re.Match[str], image: int) -> None:
        (a, place), (b, other_place) = self.who(match["a"], image), self.who(match["b"], image)
        name = match["relation"]
        true = False
        if a is not None and b is not None and place == other_place:
            true = self.facts.pictures[place].holds(a, name, b)
        key = (_bare(match["a"]), name, _bare(match["b"]))
        if name in _OPPOSITE:
            key = (key[2], _OPPOSITE[name], key[0])
        self.add(key, "relation", match, true, place, a, b)

    def same(self, match: re.Match[str]) -> None:
        letter, index = match["letter"], int(match["index"])
        if letter not in self.described:
            self.unparsed += 1
            return
        taken = [other for other, i in self.letters.items() if i == index]
        true = self.letters[letter] == index and taken[0] == letter and self.described[letter]
        self.add((letter, index), "same", match, true, None, index)

    def change(self, match: re.Match[str], image: int) -> None:
        index, _ = self.who(match["a"], image)
        old, new = ("gray" if match[k] == "grey" else match[k] for k in ("old", "new"))
        attribute = match["attribute"]
        true = False
        if index is not None and index < len(self.facts.initial):
            before = getattr(self.facts.initial[index], attribute)
            true = before == old and Transformation(index, attribute, new) in self.facts.changes
        self.add((_bare(match["a"]), attribute, old, new), "change", match, true, None, index)

    def move(self, match: re.Match[str], image: int) -> None:
        index, _ = self.who(match["a"], image)
        true = index is not None and (
            Transformation(index, "position", match["new"]) in self.facts.changes
        )
        self.add((_bare(match["a"]), match["new"]), "change", match, true, None, index)

    def unchanged(self, match: re.Match[str], image: int) -> None:
        index, _ = self.who(match["a"], image)
        exists = index is not None and index < len(self.facts.initial)
        true = exists and index not in self.facts.changed
        self.add((_bare(match["a"]),), "unchanged", match, true, None, index)

    def absent(self, match: re.Match[str], image: int) -> None:
        index, _ = self.who(match["a"], image)
        place = int(match["image"] == "second")
        exists = index is not None and index < len(self.facts.initial)
        true = exists and index not in self.facts.pictures[place].boxes
        self.add((_bare(match["a"]),), "absent", match, true, place, index)


def _bare(name: str) -> str:
    """A name without the word `object`."""
    return name.split()[-1]


def _fits(obj: SceneObject, words: Sequence[str], world: World) -> bool:
    """Whether an object looks as the words say, each about another attribute."""
    said = {a: w for w in words for a in APPEARANCE if w in world.values(a)}
    return len(said) == len(words) and all(getattr(obj, a) == w for a, w in said.items())


def _unread(text: str, spans: Sequence[tuple[int, int]]) -> int:
    """Sentences that have words and no statement in them."""
    count, k = 0, 0
    for sentence in re.finditer(r"[^.;\n]+", text):
        while k < len(spans) and spans[k][1] <= sentence.start():
            k += 1
        touched = k < len(spans) and spans[k][0] < sentence.end()
        count += not touched and re.search(r"\w", sentence[0]) is not None
    return count

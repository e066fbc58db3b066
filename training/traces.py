"""Reasoning written from the ground truth, and a checker that reads reasoning and verifies it.

The three steps are those of STAR-R1's cold start (CVPR 2026 version of arXiv 2505.15804): for each
picture reference objects and relation triplets, then who is who across the pictures, then the
comparison object by object. The paper's texts come from a closed model and are filtered by their
answer; these come from the scene, so every statement is true. docs/traces.md gives the language.

In the first picture objects have their index. In the second one they are not known yet: they are
letters, A being the leftmost, until the map says which letter is which index.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.language import LOOKS_IN_WORDS, object_words
from star_tvr.scenes.seeds import Key, stream
from star_tvr.scenes.states import SceneObject
from star_tvr.scenes.transformations import Transformation
from star_tvr.scenes.visibility import REFERENCE_PIXELS
from star_tvr.scenes.world import APPEARANCE, World
from star_tvr.schemas.records import Image, Pair, Sample

Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels of the stored image from its top left, x1 and y1 excluded."""

MAX_READ = 20_000
"""Characters of a reasoning that are read."""

SAME_BOX = 0.5
"""Intersection over union from which on a box counts as right (PASCAL VOC)."""


@dataclass(frozen=True)
class TraceConfig:
    """What supervised training teaches. The `completion` block of a training configuration.

    Attributes:
        style: `answer` is the answer alone, with empty reasoning (the paper's STAR-SFT);
            `trace` reasons in sentences, for pretrained models; `compact` says the same in as few
            words as possible, for tiny ones; `looks` only says of every object in the second
            picture what it looks like there, in the attributes that can change.
        references: most reference objects of a sample.
        relations: most relation triplets of a picture.
        objects: most objects of a picture that are named; those that change always are.
        boxes: whether objects are named with their boxes.
    """

    style: Literal["answer", "trace", "compact", "looks"] = "answer"
    references: int = 2
    relations: int = 3
    objects: int = 10
    boxes: bool = False


# --- Facts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """What can be seen in one image.

    Attributes:
        seen: the objects that show at least the data set's least number of pixels, by index;
            an object that changes needs a single pixel.
        boxes: of the visible pixels of every object that shows any.
        left: index of every object that shows any pixels: its centre's column, in pixels.
        relations: as stored, `relations["left"][0] == (3,)`: object 3 is left of object 0.
    """

    seen: Mapping[int, SceneObject]
    boxes: Mapping[int, Box]
    left: Mapping[int, float]
    relations: Mapping[str, Mapping[int, Sequence[int]]]

    def holds(self, subject: int, relation: str, other: int) -> bool:
        """Whether both objects are seen and the first stands in this relation to the other."""
        stored = self.relations.get(relation, {}).get(other, ())
        return subject in self.seen and other in self.seen and subject in stored


@dataclass(frozen=True)
class Facts:
    """What is true of a pair of pictures.

    Attributes:
        world: the vocabulary.
        initial: all objects before the changes, in the order of their index.
        pictures: the first and the second.
        changes: the transformations.
        attributes: what can change in the data set.
    """

    world: World
    initial: Sequence[SceneObject]
    pictures: tuple[Picture, Picture]
    changes: Sequence[Transformation]
    attributes: Sequence[str]

    @cached_property
    def changed(self) -> frozenset[int]:
        """The objects that change."""
        return frozenset(t.object for t in self.changes)

    @cached_property
    def anchors(self) -> frozenset[int]:
        """What can serve as a reference: seen in both pictures and unchanged."""
        first, second = self.pictures
        return frozenset((first.seen.keys() & second.seen.keys()) - self.changed)


def facts_of(sample: Sample, pair: Pair, world: World, config: DatasetConfig) -> Facts:
    """The facts of one pair, from the labels of its two images.

    Raises:
        KeyError: the sample has no such image.
    """
    plan = sample.plan
    changed = {t.object for t in plan.transformations}
    pictures = (
        _picture(sample.image("initial", pair.initial), plan.initial, changed, config),
        _picture(sample.image("final", pair.final), plan.final, changed, config),
    )
    attributes = config.transformations.attributes
    return Facts(world, plan.initial, pictures, plan.transformations, attributes)


def _picture(
    image: Image, state: Sequence[SceneObject], changed: set[int], config: DatasetConfig
) -> Picture:
    least = config.visibility.min_pixels * image.width * image.height / REFERENCE_PIXELS
    shown = [o for o in image.objects if o.pixels > 0]
    return Picture(
        {o.index: state[o.index] for o in shown if o.pixels >= least or o.index in changed},
        {o.index: o.bbox for o in shown if o.bbox is not None},
        {o.index: o.center[0] for o in shown},
        image.relations,
    )


# --- Writing -----------------------------------------------------------------------------------

T = TypeVar("T")


class _Words(NamedTuple):
    """The phrasings of a style; each is chosen anew for every sample, or every statement."""

    heads: tuple[tuple[str, ...], ...]
    reference: tuple[str, ...]
    references: tuple[str, ...]
    looks: tuple[str, ...]
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
    looks=("{0} is a {1}", "object {0} is the {1}", "{0}: {1}"),
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
    looks=("{0}: {1}",),
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
    if config.style == "looks":
        return _looks(facts)
    return _Writer(facts, config, stream(seed, "trace", *keys)).write()


def _looks(facts: Facts) -> str:
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

    def picture(self, which: int) -> list[str]:
        """Appearance and relations. The looks in the first picture are known from the question."""
        picture = self.facts.pictures[which]
        seen = [i for i in self.named if i in picture.seen]
        name = {i: str(i) for i in seen} if which == 0 else self.letters
        described = seen if which else [i for i in self.references if i in picture.seen]
        if which == 0 and self.config.boxes:
            described = [i for i in seen if i in self.references or i in self.facts.changed]
        elif which == 0 and self.words is _COMPACT:
            described = []
        pattern = self.one(self.words.looks)
        statements = [
            pattern.format(name[i], object_words(picture.seen[i])) + self.box(picture, i)
            for i in sorted(described, key=name.__getitem__)
        ]
        triplets = [
            self.words.relation.format(name[a], relation, name[b])
            for a, relation, b in self.relations(picture, seen)
        ]
        return statements + ([" ".join(triplets)] if triplets else [])

    def box(self, picture: Picture, index: int) -> str:
        if not self.config.boxes or index not in picture.boxes:
            return ""
        return " at [{}, {}, {}, {}]".format(*picture.boxes[index])

    def relations(self, picture: Picture, seen: Sequence[int]) -> list[tuple[int, str, int]]:
        """One relation to a reference for each object, those that change first."""
        found: list[tuple[int, str, int]] = []
        candidates = sorted(self.some(seen), key=lambda i: i not in self.facts.changed)
        for index in candidates:
            true = [
                (index, relation, reference)
                for reference in self.references
                for relation in RELATIONS
                if picture.holds(index, relation, reference)
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


# --- Checking ----------------------------------------------------------------------------------

RELATIONS = ("left", "right", "front", "behind")
_OPPOSITE = {"right": "left", "front": "behind"}

Kind = Literal["reference", "looks", "box", "relation", "same", "change", "unchanged", "absent"]


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
class Report:
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


def check_trace(reasoning: str, facts: Facts) -> Report:
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
                rf"{subject} (?:is )?not in (?:the )?(?P<which>first|second)\b(?: picture)?",
            ),
            ("same", r"\b(?P<letter>[A-Z])(?: is (?:object )?|\s*=\s*)(?P<index>[0-9]{1,4})\b"),
            (
                "looks",
                rf"{subject}(?: is (?:an? |the )?|: )(?P<words>{word}(?: {word}){{0,3}})"
                rf"(?: at (?P<box>{box}))?",
            ),
            ("relation", rf"\[\s*{subject}{comma}{triplet}{comma}{other}\s*\]"),
            ("relation", rf"\[\s*{subject}{comma}{other}{comma}{triplet}\s*\]"),
            ("reference", rf"(?i:\btake) (?P<names>{names}) as (?:the )?references?\b"),
            ("reference", rf"(?i:\breferences?(?: objects?)?(?: are| is|:)? )(?P<names>{names})"),
            ("head", r"(?i:\b(?:(?P<which>first|second)\b|picture (?P<number>[12])\b))"),
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

    def check(self, text: str) -> Report:
        said = list(_grammar(self.facts.world).find(text))
        for kind, match, _ in said:
            if kind == "same":
                self.letters.setdefault(match["letter"], int(match["index"]))
        which = 0
        for kind, match, _ in said:
            if kind == "head":
                which = int(
                    match["which"].lower() == "second" if match["which"] else match["number"] == "2"
                )
            elif kind != "same":
                getattr(self, kind)(match, which)
        for kind, match, _ in said:
            if kind == "same":
                self.same(match)
        spans = [span for _, _, span in said]
        return Report(tuple(self.statements.values()), self.unparsed + _unread(text, spans))

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

    def who(self, name: str, which: int) -> tuple[int | None, int]:
        """The index a name stands for, if it is known, and the picture it is about."""
        name = _bare(name)
        return (int(name), which) if name.isdigit() else (self.letters.get(name), 1)

    def reference(self, match: re.Match[str], which: int) -> None:
        for name in re.findall(r"\b(?:[0-9]{1,4}|[A-Z])\b", match["names"]):
            index, _ = self.who(name, which)
            self.add((index, name), "reference", match, index in self.facts.anchors, None, index)

    def looks(self, match: re.Match[str], which: int) -> None:
        name = _bare(match["a"])
        index, which = self.who(name, which)
        picture = self.facts.pictures[which]
        obj = None if index is None else picture.seen.get(index)
        words = ["gray" if word == "grey" else word for word in match["words"].split()]
        true = obj is not None and _fits(obj, words, self.facts.world)
        self.add((name, *words), "looks", match, true, which, index)
        self.described[name] = self.described.get(name, True) and true
        if match["box"]:
            x0, y0, x1, y1 = map(int, re.findall("[0-9]+", match["box"]))
            right = None if index is None else picture.boxes.get(index)
            shared = overlap((x0, y0, x1, y1), right) if right else 0.0
            self.add((name,), "box", match, shared >= SAME_BOX, which, index, overlap=shared)

    def relation(self, match: re.Match[str], which: int) -> None:
        (a, place), (b, other_place) = self.who(match["a"], which), self.who(match["b"], which)
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

    def change(self, match: re.Match[str], which: int) -> None:
        index, _ = self.who(match["a"], which)
        old, new = ("gray" if match[k] == "grey" else match[k] for k in ("old", "new"))
        attribute = match["attribute"]
        true = False
        if index is not None and index < len(self.facts.initial):
            before = getattr(self.facts.initial[index], attribute)
            true = before == old and Transformation(index, attribute, new) in self.facts.changes
        self.add((_bare(match["a"]), attribute, old, new), "change", match, true, None, index)

    def move(self, match: re.Match[str], which: int) -> None:
        index, _ = self.who(match["a"], which)
        true = index is not None and (
            Transformation(index, "position", match["new"]) in self.facts.changes
        )
        self.add((_bare(match["a"]), match["new"]), "change", match, true, None, index)

    def unchanged(self, match: re.Match[str], which: int) -> None:
        index, _ = self.who(match["a"], which)
        exists = index is not None and index < len(self.facts.initial)
        true = exists and index not in self.facts.changed
        self.add((_bare(match["a"]),), "unchanged", match, true, None, index)

    def absent(self, match: re.Match[str], which: int) -> None:
        index, _ = self.who(match["a"], which)
        place = int(match["which"] == "second")
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

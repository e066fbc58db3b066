"""The answer language: from a completion to predicted triplets.

A completion is `<think>…</think><answer>…</answer>`; the answer holds triplets
`index.attribute.value` (a move: `index.position.front-left.2`), separated by commas, semicolons or
line breaks. docs/answers.md lists what the parser does with everything else. It knows no scene:
whether an object or a value exists is for the caller to find out.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from star_tvr.scenes.errors import ParameterError
from star_tvr.scenes.transformations import Transformation, TripletError, answer_text

Prediction = Transformation | str
"""A triplet, or the text of a piece of the answer that is none: a wrong prediction."""

MAX_READ = 10_000
"""Pieces of an answer that are read; the ones after them are wrong whatever they say."""

UNREAD = "…"
"""Stands for a piece beyond `MAX_READ`."""

_TRIPLET = re.compile(
    r"([0-9]{1,9})\.(?:(color|shape|size|material)\.([a-z][a-z0-9_-]*)"
    r"|position\.([a-z][a-z0-9_-]*)\.([0-9]{1,9}))"
)
_THINK, _END_THINK, _ANSWER, _END_ANSWER = b"<think>", b"</think>", b"<answer>", b"</answer>"
_SEPARATORS = bytes.maketrans(b";\n\r\v\f", b",,,,,")
_WIDE_BREAKS = "\u0085\u2028\u2029"
_WIDE_SPACES = (
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u202f\u205f\u3000"
)
_WIDE = re.compile(f"[{_WIDE_BREAKS}{_WIDE_SPACES}]")


@dataclass(frozen=True)
class Parsed:
    """What a completion says.

    Attributes:
        format_ok: exactly one `<think>` part and one `<answer>` part, in this order, with nothing
            but white space before, between and after them.
        answered: whether there is an answer block at all; an empty one counts.
        predictions: the answer's pieces in their order. Shape: (n_pred,).
    """

    format_ok: bool
    answered: bool
    predictions: tuple[Prediction, ...]


def parse(completion: str) -> Parsed:
    """Read a completion; every text has a reading, found in time linear in its length.

    >>> parse("<think>It turned.</think><answer>2.Color.Grey, a cube</answer>").predictions
    (Transformation(object=2, attribute='color', value='gray'), 'acube')
    """
    # Bytes, because their lower() changes ASCII letters only. Lone surrogates become "?".
    text = completion.encode("utf-8", "replace").lower()
    block = _answer_block(text)
    if block is None:
        return Parsed(False, False, ())
    return Parsed(_format_ok(text), True, tuple(_read_block(block)))


def parse_triplet(piece: str) -> Transformation | None:
    """Read one lower-case piece without white space; None if it is no triplet."""
    match = _TRIPLET.fullmatch(piece)
    if match is None:
        return None
    index, attribute, value, direction, steps = match.groups()
    if attribute is None:
        return Transformation(int(index), "position", f"{direction}.{int(steps)}")
    if value == "grey" and attribute == "color":
        value = "gray"
    return Transformation(int(index), attribute, value)


def parse_truth(truth: str | Iterable[str | Transformation]) -> tuple[Transformation, ...]:
    """The true transformations, from an answer string without tags or a list of triplets.

    Values that are as right as another follow it after bars, as `truth_text` writes them.

    >>> parse_truth("2.color.cyan, 0.size.small") == parse_truth(["2.color.cyan", "0.size.small"])
    True
    >>> parse_truth("3.position.left.2|left.1")[0].equivalents
    ('left.1',)

    Raises:
        TripletError: something in it is no triplet.
    """
    pieces = [truth] if isinstance(truth, str) else truth
    triplets: list[Transformation] = []
    for piece in pieces:
        if isinstance(piece, Transformation):
            triplets.append(piece)
            continue
        for item in _read_block(piece.encode("utf-8", "replace").lower()):
            triplet, *others = [item] if isinstance(item, Transformation) else item.split("|")
            read = parse_triplet(triplet) if isinstance(triplet, str) else triplet
            if read is None or not all(others):
                raise TripletError(
                    f"{item!r} in the true answer is not a triplet: write index.attribute.value"
                )
            triplets.append(replace(read, equivalents=tuple(map(str, others))))
    return tuple(triplets)


def truth_text(transformations: Iterable[Transformation]) -> str:
    """The true answer with all that is as right: what rewards are given.

    >>> truth_text([Transformation(3, "position", "left.2", ("left.1",))])
    '3.position.left.2|left.1'
    """
    return ", ".join("|".join([str(t), *t.equivalents]) for t in transformations)


def as_told(predictions: Iterable[Prediction], truth: Iterable[Transformation]) -> list[Prediction]:
    """Predictions with an equivalent value written with the true one."""
    same = {replace(t, value=v): t for t in truth for v in t.equivalents}
    return [same.get(p, p) if isinstance(p, Transformation) else p for p in predictions]


def compose(transformations: Iterable[Transformation], reasoning: str = "") -> str:
    """The completion that gives this answer after this reasoning.

    >>> compose([Transformation(2, "color", "cyan")], "It changed.")
    '<think>It changed.</think><answer>2.color.cyan</answer>'
    """
    return f"<think>{reasoning}</think><answer>{answer_text(transformations)}</answer>"


def completion_text(completion: Any) -> str:
    """The text of a completion as trainers pass it: a string, or chat messages.

    Of messages the last one counts; its content is a string, None, or a list of parts whose
    `text` is joined. Messages and parts may be mappings or objects with these attributes.

    >>> completion_text([{"role": "assistant", "content": "<answer></answer>"}])
    '<answer></answer>'

    Raises:
        ParameterError: it is neither.
    """
    if isinstance(completion, str):
        return completion
    if completion is not None and not isinstance(completion, list | tuple):
        raise _no_text(completion)
    content = _field(completion[-1], "content") if completion else None
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list | tuple):
        raise _no_text(content)
    texts = [_field(part, "text") or "" for part in content]
    for text in texts:
        if not isinstance(text, str):
            raise _no_text(text)
    return "".join(texts)


def _no_text(value: object) -> ParameterError:
    return ParameterError(
        "completion", f"is a {type(value).__name__}; give a text, or a list of chat messages"
    )


def _field(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, dict) else getattr(record, name, None)


def _answer_block(text: bytes) -> bytes | None:
    """What stands in the last `<answer>` that is closed, up to the first tag that closes it."""
    last = text.rfind(_END_ANSWER)
    start = text.rfind(_ANSWER, 0, last) if last >= 0 else -1
    if start < 0:
        return None
    start += len(_ANSWER)
    return text[start : text.index(_END_ANSWER, start)]


def _format_ok(text: bytes) -> bool:
    tags = (_THINK, _END_THINK, _ANSWER, _END_ANSWER)
    if any(text.count(tag) != 1 for tag in tags):
        return False
    think, end_think, answer, end_answer = (text.index(tag) for tag in tags)
    outside = (
        text[:think]
        + text[end_think + len(_END_THINK) : answer]
        + text[end_answer + len(_END_ANSWER) :]
    )
    return think < end_think < answer < end_answer and not outside.decode().strip()


def _read_block(block: bytes) -> list[Prediction]:
    plain = block.translate(_SEPARATORS, b" \t").decode()
    if _WIDE.search(plain):
        for wide in _WIDE_BREAKS:
            plain = plain.replace(wide, ",")
        for wide in _WIDE_SPACES:
            plain = plain.replace(wide, "")
    pieces = list(filter(None, plain.split(",")))
    read: list[Prediction] = [parse_triplet(piece) or piece for piece in pieces[:MAX_READ]]
    return read + [UNREAD] * (len(pieces) - len(read))

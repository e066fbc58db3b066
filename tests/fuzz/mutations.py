"""What is done to a document, to bytes, and to a file as a whole. All follows from one `Random`."""

import copy
import json
import random
import re
from typing import Any

import numpy as np

MARKUP = "<img src=x onerror=alert(1)>"
"""Must reach no page unescaped."""


class Members(list[Any]):
    """The members of a JSON object as [name, value], so that a name may be there twice."""


class Raw(str):
    """Text of a value that a document does not have by itself, such as a number of 401 digits."""


OUTSIDE = [
    *("../outside/secret.png", "../../../outside/secret.png", "../../../../outside/secret.png"),
    *("../outside/new", "/etc/passwd", "outside/../../outside/new", ".", "..", "/", "/dev/zero"),
]
"""Names that lead out of a folder."""

VALUES = [
    *(None, True, False, 0, -1, 1, 2, 2**31, 2**63, -(2**63) - 1, 10**19, 0.5, -0.0, 1e-320, 1e308),
    *(
        float("nan"),
        float("inf"),
        Raw("1e400"),
        Raw("9" * 401),
        Raw("9" * 5001),
        Raw("1" + "0" * 30),
    ),
    *(
        "",
        " ",
        "\n",
        "000000\n",
        "000001",
        "²",
        "٣",
        "0x10",
        "nan",
        "1e5",
        "true",
        "a\x00b",
        "\ud800",
    ),
    *(
        "\x1b]0;x\x07\x1b[2J",
        "\x9b2J",
        "\u202ea",
        "e\u0301",
        "x" * 300,
        "x" * 200_000,
        "{{1}}",
        MARKUP,
    ),
    *("center", "left", "final", "initial", "red", "cube", "small", "metal", "front.1", *OUTSIDE),
    *([], {}, [[]], [None], [0] * 10_000, {"a": {}}, {"": 0}, [1, 2], ["a"], [[1, 2], [3, 4]]),
    *(Raw("[" * 100_000 + "]" * 100_000), Raw('{"a":' * 5_000 + "1" + "}" * 5_000)),
]
"""Values that programs stumble over."""

BOMB = "[" + ", ".join(f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)) + "]"
YAML_VALUES = [
    *(Raw(BOMB.replace("&a1 [" + ", ".join(["*a0"] * 9), "&a1 [x")), Raw("&a [*a]"), Raw("*none")),
    *(Raw('!!python/object/apply:os.system ["touch outside/new"]'), Raw("2026-13-45"), Raw("0o9")),
    *(
        Raw("2026-01-01"),
        Raw('!!binary "x"'),
        Raw("!!set {a: 1}"),
        Raw("12:30:45"),
        Raw("!!float x"),
    ),
    *(Raw("!!int ''"), Raw("!!bool maybe"), Raw("!!omap [a: 1]"), Raw("? [a]"), Raw("{[a]: 1}")),
    *(
        Raw("!unknown x"),
        Raw("<<"),
        Raw("{<<: 3}"),
        Raw("{1: 2}"),
        Raw("1e3"),
        Raw(".inf"),
        Raw("~"),
    ),
]
"""Further ones that only YAML can say."""


def parse(text: str) -> Any:
    """A JSON document with `Members` for its objects."""
    return json.loads(text, object_pairs_hook=lambda pairs: Members(map(list, pairs)))


def dumps(node: Any) -> str:
    """The text of a document, wrong as it may be; also YAML, in its flow form."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, Members):
        return "{" + ", ".join(f"{json.dumps(k)}: {dumps(v)}" for k, v in node) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(dumps, node)) + "]"
    return json.dumps(node)


def mutate_document(rng: random.Random, document: Any, values: list[Any] = VALUES) -> Any:
    """One to three changes somewhere in a document, which is changed in place."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place = _place(rng, document)
        if place is None:
            return copy.deepcopy(rng.choice(values))
        node, k = place
        change = rng.randrange(9)
        if change == 0:
            del node[k]
        elif change == 1:
            node.insert(rng.randrange(len(node) + 1), copy.deepcopy(node[k]))
        elif change == 2 and isinstance(node, Members):
            node[k] = [rng.choice(("", "x", "id", MARKUP, "a\nb", f"{node[k][0]} ")), node[k][1]]
        elif change == 3:
            other = _place(rng, document)
            if other is not None:
                value, there = _value(*place), _value(*other)
                if not _holds(value, other[0]) and not _holds(there, node):
                    _set(*place, there)
                    _set(*other, value)
        elif change in (4, 5):
            _set(node, k, _nudged(rng, _value(node, k)))
        else:
            _set(node, k, copy.deepcopy(rng.choice(values)))
    return document


def put(rng: random.Random, document: Any, values: list[Any]) -> None:
    """One of some values somewhere in a document."""
    place = _place(rng, document)
    if place is not None:
        _set(*place, copy.deepcopy(rng.choice(values)))


def _place(rng: random.Random, node: Any) -> tuple[list[Any], int] | None:
    """A container and a position in it; shallow ones are as likely as deep ones."""
    place = None
    while isinstance(node, list) and node:
        place = node, rng.randrange(len(node))
        if rng.random() < 0.2:
            break
        node = _value(*place)
    return place


def _value(node: list[Any], k: int) -> Any:
    return node[k][1] if isinstance(node, Members) else node[k]


def _set(node: list[Any], k: int, value: Any) -> None:
    node[k] = [node[k][0], value] if isinstance(node, Members) else value


def _holds(value: Any, node: Any) -> bool:
    """Whether a container is in a value: exchanged, they would be a circle."""
    if value is node:
        return True
    parts = [v for _, v in value] if isinstance(value, Members) else value
    return isinstance(value, list) and any(_holds(part, node) for part in parts)


def _nudged(rng: random.Random, value: Any) -> Any:
    """Nearly the same value."""
    others: list[Any] = [[value], None]
    if isinstance(value, bool) or value is None:
        others = [not value]
    elif isinstance(value, int | float):
        others += [value + 1, value - 1, -value, value * 10, value * 1e9, value + 0.5, str(value)]
        others += [value * 1.05, float(value)]
    elif isinstance(value, str):
        others += [f"{value}\n", value.upper(), f" {value}", value[1:], value[:999] * 500]
        others += [value[::-1]]
        others += [f"{value}\u0301", f"../{value}", f"{value}/"]
    elif isinstance(value, list):
        others += [value[:1], value * 50]
    return rng.choice(others)


def mutate_bytes(rng: random.Random, content: bytes) -> bytes:
    """One to three changes of bytes; places where bytes repeat, as in flat pictures, are rarer."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = np.frombuffer(content, np.uint8)
        busy = np.flatnonzero(data[4:] != data[:-4]) if data.size > 4 else np.arange(data.size)
        at = int(busy[rng.randrange(busy.size)]) if busy.size and rng.random() < 0.8 else 0
        length = rng.choice((1, 1, 2, 4, 8, 30, 300))
        piece = content[at : at + length]
        head, tail = content[:at], content[at + length :]
        more = rng.choice((b"\n", b"\x00", b"\xef\xbb\xbf", b"\x1b[2J", b"-1", b"1e999", b"[[[["))
        ways = (
            head + bytes(b ^ (1 << rng.randrange(8)) for b in piece) + tail,
            head + rng.randbytes(length) + tail,
            head + bytes(len(piece)) + tail,
            head + b"\xff" * len(piece) + tail,
            head,
            head + tail,
            head + piece + piece + tail,
            head + more + piece + tail,
            head + more + tail,
            content + piece,
        )
        content = rng.choice(ways)
    return content


def mutate_text(rng: random.Random, content: bytes, values: list[Any] = VALUES) -> bytes:
    """A JSON document, or one of YAML that was read already, changed as one or as bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, content)
    return dumps(mutate_document(rng, parse(content.decode()), values)).encode()


def mutate_lines(rng: random.Random, content: bytes) -> bytes:
    """JSON Lines: lines are changed, left out, repeated, exchanged, joined or emptied."""
    lines = content.split(b"\n")[:-1]
    k = rng.randrange(len(lines))
    change = rng.randrange(10)
    if change == 0:
        del lines[k]
    elif change == 1:
        lines.insert(rng.randrange(len(lines) + 1), lines[k])
    elif change == 2:
        rng.shuffle(lines)
    elif change == 3:
        lines[k] = rng.choice((b"", b" ", b"null", b"[]", b"3", b"{}", lines[k] * 2))
    else:
        lines[k] = mutate_text(rng, lines[k])
    return b"\n".join(lines) + rng.choice((b"\n", b"\n", b"\n", b"", b"\n\n", b"\r\n"))


REPLACEMENTS = {
    "link": "a link to a copy outside",
    "dangling": "a link to nothing",
    "loop": "a link to itself",
    "zero": "a link to /dev/zero",
    "fifo": "a pipe",
    "device": "a device",
    "folder": "a folder",
    "huge": "a file of 8 GB",
    "empty": "an empty file",
    "gone": "nothing",
}
"""What a file as a whole can be replaced by."""


def is_text(content: bytes) -> bool:
    """Whether something can be stored as text."""
    try:
        return not re.search("[\ud800-\udfff]", content.decode())
    except UnicodeDecodeError:
        return False

"""How the values of some options are written on the command line.

An option that may be repeated may also have several values with commas between them.
"""

import re
from collections.abc import Sequence
from typing import Any

from star_tvr.generator.render import DIGITS, Shard, shorten
from star_tvr.generator.split_schemes import SplitOptions
from star_tvr.scenes.errors import DataError, ParameterError
from star_tvr.schemas.checks import parse_json


def parse_shard(text: str) -> Shard:
    """Read `I/N`.

    >>> parse_shard("1/4")
    Shard(index=1, count=4)

    Raises:
        ParameterError: the text has another form, or I is not below N.
    """
    found = re.fullmatch(rf"([0-9]{{1,{DIGITS}}})/([0-9]{{1,{DIGITS}}})", text)
    if not found or int(found[1]) >= int(found[2]):
        message = "write I/N with I from 0 to N-1, for example 0/4"
        raise ParameterError("shard", message, text)
    return Shard(int(found[1]), int(found[2]))


def parse_object(parameter: str, text: str) -> dict[str, Any]:
    """Read a JSON object.

    >>> parse_object("extra_body", '{"top_k": -1}')
    {'top_k': -1}

    Raises:
        ParameterError: naming the parameter: the text is something else.
    """
    try:
        found = parse_json(text, parameter)
    except DataError as problem:
        message = str(problem).removeprefix(f"{parameter}: ")
        raise ParameterError(parameter, message, text) from None
    if not isinstance(found, dict):
        raise ParameterError(parameter, 'is no JSON object, such as {"top_k": -1}', text)
    return found


def parse_only(texts: Sequence[str]) -> list[int]:
    """Read numbers of samples.

    >>> parse_only(["000017, 3"])
    [17, 3]

    Raises:
        ParameterError: a part of it is no number, or too long for one.
    """
    parts = _parts(texts)
    for part in parts:
        if not re.fullmatch(f"[0-9]{{1,{DIGITS}}}", part):
            message = "write numbers of samples, for example 000017,000021"
            raise ParameterError("only", message, shorten(part))
    return [int(part) for part in parts]


def parse_names(texts: Sequence[str]) -> list[str]:
    """Read names, each once; none is an empty one.

    >>> parse_names(["color,size", "color"])
    ['color', 'size']
    """
    return list(dict.fromkeys(filter(None, _parts(texts))))


SCHEME_OF = {
    "paired": "cross-view",
    "angles": "view-angle",
    "max_objects": "objects",
    "attributes": "compositional",
    "hold_out": "compositional",
}
"""The scheme that an option of `tvr split` belongs to."""


def parse_split(
    scheme: str,
    seed: int,
    proportions: Sequence[str] | None = None,
    angles: Sequence[str] | None = None,
    max_objects: int | None = None,
    attributes: Sequence[str] | None = None,
    hold_out: Sequence[str] | None = None,
    paired: bool = False,
) -> SplitOptions:
    """The options of `tvr split`.

    Raises:
        ParameterError: a text has another form, or an option is of another scheme.
    """
    given = {"angles": angles, "max_objects": max_objects}
    given |= {"attributes": attributes, "hold_out": hold_out, "paired": paired}
    for name, value in given.items():
        if value and SCHEME_OF[name] != scheme:
            message = f"is for the scheme {SCHEME_OF[name]}, not for {scheme}"
            raise ParameterError(name, message)
    return SplitOptions(
        scheme,
        seed,
        parse_proportions(proportions or []),
        parse_angles(angles) if angles else SplitOptions.angles,
        max_objects,
        parse_attributes(attributes) if attributes else SplitOptions.attributes,
        parse_hold_out(hold_out) if hold_out else SplitOptions.hold_out,
        paired,
    )


def parse_proportions(texts: Sequence[str]) -> dict[str, float]:
    """Read `NAME=N`: a number with a point is a share of the scenes, any other a count.

    >>> parse_proportions(["val=0.1", "test_id=200"])
    {'val': 0.1, 'test_id': 200}

    Raises:
        ParameterError: a text has another form, or a name is there twice.
    """
    proportions: dict[str, float] = {}
    for part in filter(None, _parts(texts)):
        name, _, number = (word.strip() for word in part.partition("="))
        try:
            value = float(number) if "." in number else int(number)
        except ValueError:
            value = -1
        if not name or name in proportions or not value >= 0:
            message = "write name=share or name=number once for each split, such as val=0.1"
            raise ParameterError("proportions", message, part)
        proportions[name] = value
    return proportions


def parse_angles(texts: Sequence[str]) -> tuple[int, ...]:
    """Read whole numbers of degrees.

    Raises:
        ParameterError: a text has another form.
    """
    parts = _parts(texts)
    if not all(re.fullmatch("[0-9]{1,9}", part) for part in parts):
        message = "write whole numbers of degrees, such as 15,45,90"
        raise ParameterError("angles", message, ",".join(parts))
    return tuple(map(int, parts))


def parse_attributes(texts: Sequence[str]) -> tuple[str, str]:
    """Read two attributes.

    Raises:
        ParameterError: there are not two.
    """
    parts = _parts(texts)
    if len(parts) != 2 or not all(parts):
        message = "write two attributes, such as shape,color"
        raise ParameterError("attributes", message, ",".join(parts))
    return parts[0], parts[1]


def parse_hold_out(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read pairs of values, such as `cube+red`.

    Raises:
        ParameterError: a text has another form.
    """
    pairs = []
    for part in _parts(texts):
        words = [word.strip() for word in part.split("+")]
        if len(words) != 2 or not all(words):
            message = "write pairs of values, such as cube+red,sphere+blue"
            raise ParameterError("hold_out", message, part)
        pairs.append((words[0], words[1]))
    return tuple(pairs)


def _parts(texts: Sequence[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",")]

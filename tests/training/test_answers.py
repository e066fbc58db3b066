"""The parser: what it reads, what it refuses, and that no text upsets it."""

import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_tvr.scenes.transformations import Transformation, answer_text
from star_tvr.schemas.config import load_config
from star_tvr.training.answers import (
    MAX_READ,
    UNREAD,
    completion_text,
    compose,
    parse,
    parse_triplet,
    parse_truth,
)

WORLD = load_config("trance").world
CYAN = Transformation(2, "color", "cyan")
SMALL = Transformation(0, "size", "small")

triplets = st.one_of(
    *(
        st.builds(Transformation, st.integers(0, 254), st.just(a), st.sampled_from(WORLD.values(a)))
        for a in ("color", "shape", "size", "material", "position")
    )
)


def read(answer):
    """The predictions of an answer in a completion of the right form."""
    parsed = parse(f"<think>Hm.</think><answer>{answer}</answer>")
    assert parsed.format_ok or "<" in answer
    return list(parsed.predictions)


# What stands between the tags, and how it is read; a text is a wrong prediction.
ANSWERS = {
    # separators and empty pieces
    "2.color.cyan": [CYAN],
    "2.color.cyan, 0.size.small": [CYAN, SMALL],
    "2.color.cyan;0.size.small": [CYAN, SMALL],
    "2.color.cyan\n0.size.small\n": [CYAN, SMALL],
    "2.color.cyan\r\n0.size.small": [CYAN, SMALL],
    "2.color.cyan\u20280.size.small\u0085": [CYAN, SMALL],
    ",, 2.color.cyan ,;\n, 0.size.small,": [CYAN, SMALL],
    "": [],
    " \n ,\t;": [],
    "2.color.cyan 0.size.small": ["2.color.cyan0.size.small"],
    "2.color.cyan and 0.size.small": ["2.color.cyanand0.size.small"],
    "2.color.cyan | 0.size.small": ["2.color.cyan|0.size.small"],
    "2.color.cyan、0.size.small": ["2.color.cyan、0.size.small"],
    # spelling
    " 2 . Color\t. CYAN ": [CYAN],
    "2.color.\u00a0cyan\u202f": [CYAN],
    "2.col or.cyan": [CYAN],
    "2.color.grey": [Transformation(2, "color", "gray")],
    "2.color.GREY": [Transformation(2, "color", "gray")],
    "2.colour.cyan": ["2.colour.cyan"],
    "2.color.mauve": [Transformation(2, "color", "mauve")],
    "2.material.grey": [Transformation(2, "material", "grey")],
    # moves
    "4.position.front-left.2": [Transformation(4, "position", "front-left.2")],
    "4.Position.Front-Left.02": [Transformation(4, "position", "front-left.2")],
    "4.position.front left.2": [Transformation(4, "position", "frontleft.2")],
    "4.position.front-left": ["4.position.front-left"],
    "4.position.2": ["4.position.2"],
    "4.position.front.-1": ["4.position.front.-1"],
    "2.color.cyan.2": ["2.color.cyan.2"],
    # numbers
    "02.color.cyan": [CYAN],
    "000000002.color.cyan": [CYAN],
    "2.0.color.cyan": ["2.0.color.cyan"],
    "+2.color.cyan": ["+2.color.cyan"],
    "-2.color.cyan": ["-2.color.cyan"],
    "2e0.color.cyan": ["2e0.color.cyan"],
    "0x2.color.cyan": ["0x2.color.cyan"],
    "1234567890.color.cyan": ["1234567890.color.cyan"],
    "two.color.cyan": ["two.color.cyan"],
    "２.color.cyan": ["２.color.cyan"],
    "٢.color.cyan": ["٢.color.cyan"],
    "².color.cyan": ["².color.cyan"],
    # characters that look like others, or like nothing
    "2.color.c\u200byan": ["2.color.c\u200byan"],
    "\ufeff2.color.cyan": ["\ufeff2.color.cyan"],
    "2.colоr.cyan": ["2.colоr.cyan"],  # a Cyrillic o
    "2.color.blac\u212a": ["2.color.blac\u212a"],  # the Kelvin sign
    "2.\u017fize.small": ["2.\u017fize.small"],  # a long s
    "2．color．cyan": ["2．color．cyan"],
    "2.color.cyan\x00": ["2.color.cyan\x00"],
    "2.color.cyan\ud800": ["2.color.cyan?"],
    # lists, quotes, markup, prose
    '["2.color.cyan", "0.size.small"]': ['["2.color.cyan"', '"0.size.small"]'],
    '{"object": 2, "color": "cyan"}': ['{"object":2', '"color":"cyan"}'],
    "- 2.color.cyan\n- 0.size.small": ["-2.color.cyan", "-0.size.small"],
    "1. 2.color.cyan": ["1.2.color.cyan"],
    "* 2.color.cyan": ["*2.color.cyan"],
    "`2.color.cyan`": ["`2.color.cyan`"],
    "**2.color.cyan**": ["**2.color.cyan**"],
    "(2, color, cyan)": ["(2", "color", "cyan)"],
    "2.color.cyan.": ["2.color.cyan."],
    "The answer is 2.color.cyan": ["theansweris2.color.cyan"],
    "2.color.cyan (was red)": ["2.color.cyan(wasred)"],
    r"2\.color\.cyan": [r"2\.color\.cyan"],
    r"2.color.cyan\n0.size.small": [r"2.color.cyan\n0.size.small"],
    "change_color(2, 'cyan')": ["change_color(2", "'cyan')"],
    "none": ["none"],
    "2..cyan": ["2..cyan"],
    "2.color": ["2.color"],
    ".color.cyan": [".color.cyan"],
    "2.color.": ["2.color."],
    "<b>2.color.cyan</b>": ["<b>2.color.cyan</b>"],
}


@pytest.mark.parametrize("answer", ANSWERS, ids=ascii)
def test_answers(answer):
    assert read(answer) == ANSWERS[answer]


# Completions with unusual tags: whether the form is right, whether there is an answer, and what.
COMPLETIONS = {
    "<think></think><answer></answer>": (True, True, []),
    "<think>a</think> \n <answer>2.color.cyan</answer>": (True, True, [CYAN]),
    "\ufeff<think>a</think><answer>2.color.cyan</answer>": (False, True, [CYAN]),
    "\u00a0<think>a</think>\u2028<answer>2.color.cyan</answer> ": (True, True, [CYAN]),
    "<THINK>a</Think><ANSWER>2.color.cyan</aNsWeR>": (True, True, [CYAN]),
    # tags missing
    "": (False, False, []),
    "2.color.cyan": (False, False, []),
    "<answer>2.color.cyan</answer>": (False, True, [CYAN]),
    "<think>2.color.cyan</think>": (False, False, []),
    "<think><answer>2.color.cyan</answer>": (False, True, [CYAN]),
    "a</think><answer>2.color.cyan</answer>": (False, True, [CYAN]),
    # tags not closed, or not opened
    "<think>a</think><answer>2.color.cyan": (False, False, []),
    "<think>a</think>2.color.cyan</answer>": (False, False, []),
    "<think>a</think></answer>2.color.cyan<answer>": (False, False, []),
    "<answer>2.color.cyan</answer><answer>0.size.small": (False, True, [CYAN]),
    "<answer>2.color.cyan</answer>0.size.small</answer>": (False, True, [CYAN]),
    # repeated
    "<answer>0.size.small</answer><answer>2.color.cyan</answer>": (False, True, [CYAN]),
    "<answer>2.color.cyan</answer><answer></answer>": (False, True, []),
    "<think>a</think><think>b</think><answer>2.color.cyan</answer>": (False, True, [CYAN]),
    # nested
    "<answer><answer>2.color.cyan</answer></answer>": (False, True, [CYAN]),
    "<answer>0.size.small<answer>2.color.cyan</answer>7</answer>": (False, True, [CYAN]),
    "<think>a</think><answer><think>2.color.cyan</think></answer>": (
        False,
        True,
        ["<think>2.color.cyan</think>"],
    ),
    "<think>2.color.red, <answer>0.size.small</answer></think><answer>2.color.cyan</answer>": (
        False,
        True,
        [CYAN],
    ),
    "<think>a<answer>2.color.cyan</answer></think>": (False, True, [CYAN]),
    "<answer>2.color.cyan</answer><think>a</think>": (False, True, [CYAN]),
    # something else outside the tags
    "So: <think>a</think><answer>2.color.cyan</answer>": (False, True, [CYAN]),
    "<think>a</think>So:<answer>2.color.cyan</answer>": (False, True, [CYAN]),
    "<think>a</think><answer>2.color.cyan</answer>.": (False, True, [CYAN]),
    "<think>a</think><answer>2.color.cyan</answer><|im_end|>": (False, True, [CYAN]),
    # not quite tags
    "<think>a</think>< answer >2.color.cyan</ answer >": (False, False, []),
    '<think>a</think><answer id="1">2.color.cyan</answer>': (False, False, []),
    "<think>a</think>&lt;answer&gt;2.color.cyan&lt;/answer&gt;": (False, False, []),
    "<thin\u212a>a</think><answer>2.color.cyan</answer>": (False, True, [CYAN]),
    "<think>a</think><an\u017fwer>2.color.cyan</answer>": (False, False, []),
    "<think>1 < 2 <answe </ans</think><answer>2.color.cyan</answer>": (True, True, [CYAN]),
}


@pytest.mark.parametrize("completion", COMPLETIONS, ids=ascii)
def test_completions(completion):
    parsed = parse(completion)
    found = (parsed.format_ok, parsed.answered, list(parsed.predictions))
    assert found == COMPLETIONS[completion]


@given(st.lists(triplets))
def test_what_is_composed_is_read(transformations):
    parsed = parse(compose(transformations, "The first one changed."))
    assert parsed.format_ok
    assert list(parsed.predictions) == transformations
    assert list(parse_truth(answer_text(transformations))) == transformations
    assert list(parse_truth([str(t) for t in transformations])) == transformations


@given(triplets, st.data())
def test_every_allowed_spelling_is_read_alike(triplet, data):
    text = str(triplet).replace("gray", data.draw(st.sampled_from(["gray", "grey"])))
    blanks = st.text(" \t\u00a0\u3000", max_size=2)
    spelled = "".join(
        data.draw(blanks) + (c.upper() if data.draw(st.booleans()) else c) for c in text
    )
    ends = data.draw(st.text(",; \n\r", max_size=3)), data.draw(st.text(",; \n\r", max_size=3))
    assert read(ends[0] + spelled + ends[1]) == [triplet]


@given(st.text())
def test_a_triplet_is_read_as_it_is_written(text):
    triplet = parse_triplet(text)
    assert triplet is None or str(triplet) == re.sub(r"(?<![0-9])0+(?=[0-9])", "", text)


def test_beyond_the_limit_nothing_is_read():
    predictions = read("2.color.cyan," * (MAX_READ + 5))
    assert predictions == [CYAN] * MAX_READ + [UNREAD] * 5


MEGABYTE = 1_000_000
HUGE = {
    "open": ("<answer>" * (MEGABYTE // 8), None),
    "closed": ("</answer>" * (MEGABYTE // 9), None),
    "open then closed": ("<answer>" * (MEGABYTE // 8) + "</answer>", 0),
    "empty blocks": ("<answer></answer>" * (MEGABYTE // 17), 0),
    "angles": ("<" * MEGABYTE, None),
    "commas": ("<answer>" + "," * MEGABYTE + "</answer>", 0),
    "letters": ("<answer>" + "a," * (MEGABYTE // 2) + "</answer>", MEGABYTE // 2),
    "triplets": ("<answer>" + "2.color.cyan;" * (MEGABYTE // 13) + "</answer>", MEGABYTE // 13),
    "digits": ("<answer>" + "1" * MEGABYTE + ".color.cyan</answer>", 1),
    "value": ("<answer>2.color." + "a" * MEGABYTE + "</answer>", 1),
    "blanks": ("<answer>2" + " " * MEGABYTE + ".color.cyan</answer>", 1),
    "no-break spaces": ("<answer>" + "a\u00a0" * (MEGABYTE // 2) + "</answer>", 1),
    "surrogates": ("<answer>" + "\ud800" * MEGABYTE + "</answer>", 1),
    "thinking": ("<think>" + "2.color.red, " * (MEGABYTE // 13) + "</think><answer></answer>", 0),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_megabyte(name):
    completion, count = HUGE[name]
    parsed = parse(completion)
    assert parsed.answered == (count is not None)
    assert len(parsed.predictions) == (count or 0)


def test_completions_as_trainers_pass_them():
    for completion in (
        "text",
        [{"role": "assistant", "content": "text"}],
        [{"role": "user", "content": "no"}, {"role": "assistant", "content": "text"}],
        [{"role": "assistant", "content": [{"type": "text", "text": "te"}, {"text": "xt"}]}],
        [SimpleNamespace(role="assistant", content="text")],
    ):
        assert completion_text(completion) == "text"
    for nothing in ("", [], [{"role": "assistant", "content": None}], [{"role": "assistant"}]):
        assert completion_text(nothing) == ""


# A second, slower reading of docs/answers.md, which the parser must agree with on any text.

TAG = re.compile(r"<(/?)(think|answer)>", re.IGNORECASE | re.ASCII)
BREAKS = set(",;\n\r\v\f\u0085\u2028\u2029")
TRIPLET = re.compile(
    r"0*(?P<index>[0-9]+)\.(?P<attribute>color|shape|size|material|position)\."
    r"(?P<value>[a-z][a-z0-9_-]*)(\.0*(?P<steps>[0-9]+))?"
)


def slow_piece(piece):
    match = TRIPLET.fullmatch(piece)
    longest = max(map(len, re.findall("[0-9]+", re.sub("[a-z][a-z0-9_-]*", "", piece))), default=0)
    if not match or (match["steps"] is None) == (match["attribute"] == "position") or longest > 9:
        return piece
    value = match["value"] if match["steps"] is None else f"{match['value']}.{match['steps']}"
    value = "gray" if (match["attribute"], value) == ("color", "grey") else value
    return Transformation(int(match["index"]), match["attribute"], value)


def slow_parse(text):
    text = "".join("?" if 0xD800 <= ord(c) < 0xE000 else c for c in text)
    tags = list(TAG.finditer(text))
    names = [(t[1] + t[2]).lower() for t in tags]
    ends = [0, *(k for t in tags for k in t.span()), len(text)]
    outside = [text[a:b] for a, b in zip(ends[::2], ends[1::2], strict=True)]
    form = names == ["think", "/think", "answer", "/answer"]
    form = form and not "".join(outside[::2]).strip()
    answers = [t for t in tags if t[2].lower() == "answer"]
    blocks = [
        text[a.end() : b.start()]
        for a, b in zip(answers, answers[1:], strict=False)
        if not a[1] and b[1]
    ]
    if not blocks:
        return False, False, []
    pieces = [""]
    for c in blocks[-1]:
        if c in BREAKS:
            pieces.append("")
        elif not c.isspace() or c in "\x1c\x1d\x1e\x1f":
            pieces[-1] += c.lower() if c.isascii() else c
    return form, True, [slow_piece(p) for p in pieces if p]


FRAGMENTS = [
    *("<answer>", "</answer>", "<think>", "</think>") * 3,
    *("<ANSWER>", "</Think>", "<answer", "</", ">", "<", "< answer>", "<answer/>"),
    *("2.color.cyan", "0.size.small", "4.position.front-left.2", "11.Color.Grey") * 2,
    *(",", ";", "\n", "\r", ", ", " ", "\t", "\v", "\f", "\u0085", "\u2028", "\u00a0", "\u3000"),
    *("2", "0", "02", "1234567890", "٢", "２", ".", "..", "color", "position", "size", "grey"),
    *("\u200b", "\ufeff", "\ud800", "\udfff", "\x00", "\x1c", "\u212a", "\u017f", "\u0130", "ß"),
    *("-", "_", "*", "`", '"', "[", "]", "{", "\\", "|", "a", "The cube", "\U0001f600", "e\u0301"),
]

FUZZ = int(os.environ.get("TVR_FUZZ", "3000"))
"""`TVR_FUZZ=1000000 pytest tests/training/test_answers.py -k fuzz` takes a few minutes."""


def test_fuzz():
    rng = np.random.default_rng(FUZZ)
    for _ in range(FUZZ):
        text = "".join(FRAGMENTS[k] for k in rng.integers(len(FRAGMENTS), size=rng.integers(1, 30)))
        parsed = parse(text)
        found = (parsed.format_ok, parsed.answered, list(parsed.predictions))
        assert found == slow_parse(text), ascii(text)


@given(st.text() | st.text("<>/thinkanswer0.,;color "))
def test_the_two_readings_agree(text):
    for completion in (text, f"<think></think><answer>{text}</answer>"):
        parsed = parse(completion)
        found = (parsed.format_ok, parsed.answered, list(parsed.predictions))
        assert found == slow_parse(completion)

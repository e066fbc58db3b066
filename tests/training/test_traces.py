"""Reasoning written from the ground truth is true; what is not true is found."""

import re
from dataclasses import replace
from itertools import product

import pytest

from star_tvr.schemas.records import Pair
from star_tvr.training.config import TraceConfig, load_train_config
from star_tvr.training.scene_facts import facts_of
from star_tvr.training.trace_checker import MAX_READ, check_trace, overlap, reasoning_of
from star_tvr.training.traces import write_trace
from tests.training.discs import make_config, make_sample

STYLES = [
    TraceConfig(style=style, boxes=b) for style in ("trace", "compact") for b in (False, True)
]


def all_facts(preset, count):
    """The facts of every pair of the first samples of a preset."""
    config = make_config(preset, ["objects.visible=[1, 6]", "transformations.count=[1, 4]"])
    world = config.world
    for index in range(count):
        sample, _ = make_sample(config, index)
        cameras = [[i.camera for i in sample.images if i.state == s] for s in ("initial", "final")]
        for initial, final in product(*cameras):
            yield sample, facts_of(sample, Pair(sample.id, initial, final), world, config)


@pytest.mark.parametrize("preset", ["star", "view"])
def test_every_statement_is_true_and_read(preset):
    for sample, facts in all_facts(preset, 12):
        for config in STYLES:
            text = write_trace(facts, config, 0, sample.id)
            report = check_trace(text, facts)
            assert [s for s in report.statements if not s.true] == []
            assert report.unparsed == 0
            kinds = [s.kind for s in report.statements]
            assert kinds.count("change") == len(facts.changes)
            assert ("box" in kinds) == config.boxes
            named = set(re.findall(r"\b[A-Z]\b(?= is| =|=|:)", text))
            assert {s for s in "ABCDEF" if f" {s}:" in text} <= named


def test_nothing_is_said_of_what_is_not_seen():
    hidden = 0
    for sample, facts in all_facts("star", 6):
        first, second = facts.pictures
        unchanged = sorted(second.seen.keys() - facts.changed)
        if not unchanged:
            continue
        hidden += 1
        gone = unchanged[0]
        seen = {i: o for i, o in second.seen.items() if i != gone}
        occluded = replace(facts, pictures=(first, replace(second, seen=seen)))
        for config in STYLES:
            report = check_trace(write_trace(occluded, config, 0, sample.id), occluded)
            assert report.false == 0
            of_second = [s for s in report.statements if s.picture == 1 or s.picture is None]
            assert all(gone not in s.objects for s in of_second)
    assert hidden > 3


def test_moves_out_and_in_are_told():
    texts = []
    for sample, facts in all_facts("view", 30):
        texts.append(write_trace(facts, TraceConfig(style="trace"), 0, sample.id))
    assert any("not in the second picture" in t for t in texts)
    assert any("not in the first picture" in t for t in texts)


def test_the_wording_varies_and_is_a_function_of_the_seed():
    sample, facts = next(all_facts("star", 1))
    texts = {write_trace(facts, TraceConfig(style="trace"), seed, sample.id) for seed in range(20)}
    assert len(texts) > 15
    again = {write_trace(facts, TraceConfig(style="trace"), seed, sample.id) for seed in range(20)}
    assert texts == again
    assert write_trace(facts, TraceConfig(style="answer"), 0) == ""


def test_the_former_name_of_a_style(write_config):
    config = load_train_config("sft", write_config(completion={"style": "looks"}))
    assert config.completion == TraceConfig(style="attributes")


def test_the_length_is_limited():
    for sample, facts in all_facts("star", 12):
        config = TraceConfig(style="trace", references=1, relations=1, objects=1)
        report = check_trace(write_trace(facts, config, 0, sample.id), facts)
        for picture in (0, 1):
            relations = [s for s in report.statements if s.kind == "relation"]
            assert sum(s.picture == picture for s in relations) <= 1
        spoken = {i for s in report.statements for i in s.objects}
        assert len(spoken) <= len(facts.changed) + 1
        full = write_trace(facts, TraceConfig(style="trace"), 0, sample.id)
        compact = write_trace(facts, TraceConfig(style="compact"), 0, sample.id)
        assert len(compact) < 0.8 * len(full)


@pytest.fixture(scope="module")
def facts():
    """Facts of a cross-view pair with an anchor, a second object and a change of colour or so."""
    for _, facts in all_facts("star", 30):
        if len(facts.anchors) > 1 and facts.changes[0].attribute == "color":
            return facts
    raise AssertionError("no such sample")


def test_false_statements_are_found(facts):
    change = facts.changes[0]
    old = facts.initial[change.object].color
    anchor = min(facts.anchors)
    obj = facts.pictures[1].seen[anchor]
    cases = [
        (f"{change.object}: color {old} -> {change.value}", "change", True),
        (f"{change.object} changes its color from {change.value} to {old}", "change", False),
        (f"the color of 99 was {old} and is now {change.value}", "change", False),
        (f"{change.object} is unchanged", "unchanged", False),
        (f"{anchor} stays the same", "unchanged", True),
        (f"references: {change.object}", "reference", False),
        (f"reference objects are {anchor}", "reference", True),
        (f"{anchor} is not in the second picture", "absent", False),
        (f"First picture: {anchor} is a {obj.color} {obj.shape}", "attributes", True),
        (f"First picture: [{anchor}, left, {anchor}]", "relation", False),
        ("[7, behind, 99]", "relation", False),
        ("[A, left, B]", "relation", False),  # nobody knows who they are
        (f"{anchor} is a {obj.shape} {obj.shape}", "attributes", False),
    ]
    for text, kind, true in cases:
        [statement] = check_trace(text, facts).statements
        assert (statement.kind, statement.true) == (kind, true), text


def test_relations_in_both_notations_and_both_directions(facts):
    first = facts.pictures[0]
    a, b = next((j, i) for i, js in first.relations["left"].items() for j in js)
    for text in (f"[{a}, left, {b}]", f"[{a}, {b}, left]", f"[object {b} right {a}]"):
        report = check_trace(text, facts)
        assert (report.true, report.false) == (1, 0), text
    assert check_trace(f"[{a}, left, {b}] [{b}, right, {a}] [{a} left {b}]", facts).true == 1
    assert check_trace(f"[{b}, left, {a}]", facts).false == 1


def test_a_wrong_map_is_found(facts):
    second = facts.pictures[1]
    a, b = sorted(facts.anchors)[:2]
    words = [f"{o.size} {o.color} {o.material} {o.shape}" for o in (second.seen[a], second.seen[b])]
    described = f"A is a {words[0]}; B is a {words[1]}. "
    assert check_trace(f"Second picture: {described}A is {a}; B is {b}.", facts).false == 0
    assert check_trace(f"Second picture: {described}A is {b}; B is {a}.", facts).false == 4
    assert check_trace(f"Second picture: {described}A is {a}; B is {a}.", facts).false == 2
    assert check_trace(f"A = {a}", facts).unparsed == 1  # of A nothing was said


def test_boxes_are_compared_by_overlap(facts):
    index = min(facts.anchors)
    obj, (x0, y0, x1, y1) = facts.pictures[0].seen[index], facts.pictures[0].boxes[index]
    text = f"{index}: {obj.color} {obj.shape} at [{x0}, {y0}, {x1}, {y1}]"
    assert [s.overlap for s in check_trace(text, facts).statements] == [None, 1.0]
    text = f"{index}: {obj.color} {obj.shape} at [{x1}, {y1}, {x1 + 5}, {y1 + 5}]"
    assert [(s.true, s.overlap) for s in check_trace(text, facts).statements][1] == (False, 0.0)
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0.0
    assert overlap((5, 5, 0, 0), (0, 0, 9, 9)) == 0.0


def test_prose_is_counted_as_unread(facts):
    report = check_trace("I look at the pictures. Hmm; what a scene!\n\n0 is unchanged.", facts)
    assert (len(report.statements), report.unparsed) == (1, 3)


@pytest.mark.parametrize("piece", ["[0, left, ", "A is ", "0 and ", "0: large ", "[[[[", "é 1:"])
def test_any_text_is_read_fast(facts, piece):
    check_trace(piece * (2 * MAX_READ // len(piece)), facts)


def test_the_reasoning_of_a_completion():
    assert reasoning_of("<think>so</think><answer></answer>") == "so"
    assert reasoning_of("no tags") == reasoning_of("</think><think>") == ""

"""What a question says, and what it must not say."""

import re
from dataclasses import replace

import pytest

from star_tvr.scenes.cameras import Camera
from star_tvr.schemas.records import Pair
from star_tvr.training.answers import parse
from star_tvr.training.config import PromptConfig
from star_tvr.training.prompts import (
    ORDERS,
    answer_completion,
    build_prompt,
    example_answer,
    locate,
    rules,
    steps_text,
    with_images,
)
from star_tvr.training.scene_facts import facts_of
from star_tvr.training.trace_checker import check_trace
from tests.training.discs import HEIGHT, WIDTH, make_config, make_sample

STYLES = [
    PromptConfig(style=style, location=location)
    for style in ("full", "compact")
    for location in ("pixel", "cell", "none")
]
PAIR = Pair("000000", "center", "left")
CONFIG = make_config()
STATES = ("initial", "final")
WORLD = CONFIG.world


def words(messages) -> str:
    """All text of a prompt, with a mark for every image."""
    parts = [part for message in messages for part in message["content"]]
    return "\n".join(part.get("text", "[image]") for part in parts)


@pytest.mark.parametrize("style", STYLES, ids=str)
def test_nothing_of_the_final_state_is_read(style):
    for index in range(8):
        sample, _ = make_sample(CONFIG, index)
        blind = replace(
            sample,
            plan=replace(sample.plan, final=(), transformations=()),
            images=tuple(image for image in sample.images if image.state == "initial"),
        )
        asked = build_prompt(sample, PAIR, WORLD, CONFIG, style)
        assert asked == build_prompt(blind, PAIR, WORLD, CONFIG, style)
        other = Pair("000000", "center", "right")
        assert asked == build_prompt(sample, other, WORLD, CONFIG, style)


@pytest.mark.parametrize("style", STYLES, ids=str)
def test_two_images_and_every_visible_object(style):
    for index in range(8):
        sample, _ = make_sample(CONFIG, index)
        text = words(build_prompt(sample, PAIR, WORLD, CONFIG, style))
        assert text.count("[image]") == 2
        for o in sample.plan.initial:
            separator = ":" if style.style == "full" else ""
            listed = f"{o.index}{separator} {o.size} {o.color} {o.material} {o.shape}"
            assert listed in text.splitlines() or f"\n{listed} " in text


def test_identical_objects_are_told_apart():
    sample, _ = make_sample(CONFIG, 3)
    first = sample.plan.initial[0]
    twins = tuple(
        replace(first, index=o.index, x=o.x, y=o.y, rotation=o.rotation)
        for o in sample.plan.initial
    )
    sample = replace(sample, plan=replace(sample.plan, initial=twins))
    text = words(
        build_prompt(sample, PAIR, WORLD, CONFIG, PromptConfig(style="full", location="pixel"))
    )
    described = [line for line in text.splitlines() if " at (" in line]
    places = [line.split(" at ")[1] for line in described]
    assert len(places) == len(twins) > 1
    assert len(set(places)) == len(places)


def test_locations_are_those_of_the_labels():
    sample, _ = make_sample(CONFIG, 1)
    view = sample.image("initial", "center")
    text = words(
        build_prompt(sample, PAIR, WORLD, CONFIG, PromptConfig(style="full", location="pixel"))
    )
    for o in view.objects:
        u, v = o.center
        assert f" at ({round(u)}, {round(v)})" in text
    assert f"{WIDTH} x {HEIGHT}" in text


@pytest.mark.parametrize("style", ["full", "compact"])
def test_the_list_can_be_in_the_order_of_the_picture(style):
    sorted_anew = 0
    for index in range(8):
        sample, _ = make_sample(CONFIG, index)
        views = sample.image("initial", "center").objects
        orders = {
            "index": [o.index for o in views],
            "left-to-right": [o.index for o in sorted(views, key=lambda o: o.center[0])],
            "near-to-far": [o.index for o in sorted(views, key=lambda o: o.depth)],
        }
        listed = {}
        for order in ORDERS:
            config = PromptConfig(style=style, location="cell", order=order)
            text = words(build_prompt(sample, PAIR, WORLD, CONFIG, config))
            listed[order] = re.findall(r"^\d:? \w+ \w+ \w+ \w+ .*$", text, re.MULTILINE)
            assert [int(line[0]) for line in listed[order]] == orders[order]
            assert ("by index, from" in text) == (style == "full" and order != "index")
        assert sorted(listed["left-to-right"]) == sorted(listed["near-to-far"]) == listed["index"]
        sorted_anew += len({tuple(lines) for lines in listed.values()}) == 3
    assert sorted_anew > 2


def test_cells_stay_in_the_grid():
    style = PromptConfig(style="compact", location="cell", cells=8)
    for center, cell in [
        ((-3.0, 200.0), "0,7"),
        ((0.0, 0.0), "0,0"),
        ((63.99, 47.99), "7,7"),
        ((64.0, 24.0), "7,4"),
    ]:
        assert locate(*center, 64, 48, style) == cell


def test_the_vocabulary_is_that_of_the_data_set():
    text = "\n".join(rules(WORLD, CONFIG.transformations, Camera((9.0, 0.0, 6.0))))
    for attribute in ("color", "shape", "size", "material"):
        assert f"{attribute}: {', '.join(WORLD.values(attribute))}" in text
    assert "position" not in text
    only_size = make_config(overrides=["transformations.attributes=[size]"])
    text = "\n".join(rules(WORLD, only_size.transformations, Camera((9.0, 0.0, 6.0))))
    assert "size: " in text
    assert "cyan" not in text and "rubber" not in text


def test_objects_outside_are_listed_where_objects_move():
    config = make_config("event", ["objects.total=[8, 8]"])
    sample, _ = make_sample(config, 0)
    world = config.world
    outside = [o for o in sample.plan.initial if not o.visible(world)]
    assert outside
    pair = Pair("000000", *(next(i.camera for i in sample.images if i.state == s) for s in STATES))
    text = words(build_prompt(sample, pair, world, config, PromptConfig()))
    assert text.count(", outside the picture") == len(outside)
    assert "position: a direction (front, behind, left" in text
    compact = words(
        build_prompt(sample, pair, world, config, PromptConfig(style="compact", location="cell"))
    )
    assert len(re.findall(r" - -?\d+,-?\d+$", compact, re.MULTILINE)) == len(outside)


def test_directions_are_explained_for_cameras_at_the_side():
    config = make_config("event")
    world = config.world
    front = "\n".join(rules(world, config.transformations, Camera((9.0, 0.5, 6.0))))
    side = "\n".join(rules(world, config.transformations, Camera((0.0, 9.0, 6.0))))
    assert "degrees" not in front
    assert "90 degrees to the right of its front" in side


def test_the_example_is_in_the_answer_language():
    for attributes in (["size"], ["color", "shape"], ["position", "color"]):
        text = f"<think></think><answer>{example_answer(WORLD, attributes)}</answer>"
        parsed = parse(text)
        assert parsed.format_ok
        assert [str(p).split(".")[1] for p in parsed.predictions] == attributes[:2]


def test_the_taught_completion_is_in_the_answer_language():
    parsed = parse(words(answer_completion("2.color.cyan, 0.size.small")))
    assert parsed.format_ok
    assert [str(p) for p in parsed.predictions] == ["2.color.cyan", "0.size.small"]


def test_images_fill_the_placeholders_in_order():
    sample, _ = make_sample(CONFIG, 0)
    prompt = build_prompt(sample, PAIR, WORLD, CONFIG, PromptConfig())
    filled = with_images(prompt, ["first", "second"])
    parts = [part for message in filled for part in message["content"]]
    assert [p["image"] for p in parts if p["type"] == "image"] == ["first", "second"]
    with pytest.raises(ValueError, match="more image placeholders"):
        with_images(prompt, ["first"])
    with pytest.raises(ValueError, match="more images"):
        with_images(prompt, ["first", "second", "third"])


def test_steps_are_asked_for_in_the_notation_that_is_checked():
    sample, _ = make_sample(CONFIG, 1)
    for boxes in (False, True):
        style = PromptConfig(reasoning="steps", boxes=boxes, system="Answer.")
        text = words(build_prompt(sample, PAIR, WORLD, CONFIG, style))
        assert text.startswith("Answer.\n")
        assert ("[x0, y0, x1, y1]" in text) == boxes
        report = check_trace(steps_text(False), facts_of(sample, PAIR, WORLD, CONFIG))
        kinds = {s.kind for s in report.statements}
        assert kinds == {"reference", "relation", "attributes", "same", "change", "unchanged"}


@pytest.mark.parametrize("style", ["full", "compact"])
def test_objects_that_others_cover_are_called_hidden(style):
    sample, _ = make_sample(CONFIG, 3)
    shown = sample.image("initial", "center")
    first = shown.objects[0]
    covered = replace(
        sample,
        images=tuple(
            replace(image, objects=(replace(first, pixels=0, bbox=None), *image.objects[1:]))
            if image == shown
            else image
            for image in sample.images
        ),
    )
    asked = PromptConfig(style=style)
    before, after = (
        words(build_prompt(s, PAIR, WORLD, CONFIG, asked)).splitlines() for s in (sample, covered)
    )
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(changed) == 1
    assert changed[0][1].startswith(f"{first.index}") and "hidden" in changed[0][1]


def test_rules_of_moves_are_told():
    moving, still = make_config("trance"), make_config()
    camera = Camera((9.5, 0.0, 6.3))
    told = " ".join(rules(moving.world, moving.transformations, camera))
    assert "leaves the picture or enters it, which changes in nothing else" in told
    assert "(1 or 2) of 1.5 units" in told and "0.9 (large)" in told and "in any order" in told
    told = " ".join(rules(still.world, still.transformations, camera))
    assert "can be seen in both pictures." in told and "units" not in told

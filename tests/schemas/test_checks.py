"""Wrong documents are refused with file, field and reason."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.checks import FOLDER as SCHEMAS
from star_tvr.schemas.checks import check, parse_json, read_json, read_jsonl
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import Manifest


def damaged(document, path, value):
    """A copy with one value replaced, or removed if the value is `...`."""
    result = copy.deepcopy(document)
    *parents, last = path.split(".")
    inner = result
    for key in parents:
        inner = inner[int(key) if key.isdigit() else key]
    if value is ...:
        del inner[last]
    else:
        inner[int(last) if last.isdigit() else last] = value
    return result


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("id", 3, "id: 3 is not of type 'string'"),
        ("id", "17", "id"),
        ("seed", -1, "seed"),
        ("answer", ..., "answer"),
        ("answer", "", "answer"),
        ("colour", "red", "colour: unknown key"),
        ("cameras", {}, "cameras"),
        ("cameras.center.positoin", [1, 2, 3], "cameras.center.positoin.*position"),
        ("cameras.center.position", [1, 2], "cameras.center.position"),
        ("cameras.center.focal_length", 0, "cameras.center.focal_length"),
        ("cameras.center.intrinsics", [[1, 0], [0, 1]], "cameras.center.intrinsics"),
        ("lights.key.power", "strong", "lights.key.power"),
        ("states.initial.objects", [], "states.initial.objects"),
        ("states.final.objects.0.visible", 1, "states.final.objects.0.visible"),
        ("states.initial.objects.0.index", 1.5, "states.initial.objects.0.index"),
        ("transformations", [], "transformations"),
        ("transformations.0.attribute", "weight", "transformations.0.attribute"),
        ("transformations.0.before", None, "transformations.0.before"),
        ("images", [], "images"),
        ("images.0.state", "middle", "images.0.state"),
        ("images.0.path", "../../etc/passwd.png", "images.0.path"),
        ("images.0.objects.0.bbox", [1, 2, 3], "images.0.objects.0.bbox"),
        ("images.0.objects.0.visibility", 1.5, "images.0.objects.0.visibility"),
        ("images.0.objects.0.pixels", -1, "images.0.objects.0.pixels"),
        ("images.0.relations.left", [1], "images.0.relations.left"),
        ("render.seconds", -1, "render.seconds"),
    ],
)
def test_wrong_samples(document, path, value, expected):
    check(document, "sample", "sample.json")
    with pytest.raises(DataError, match=f"^sample.json: .*{expected}"):
        check(damaged(document, path, value), "sample", "sample.json")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("counts.samples", 0, "counts.samples"),
        ("counts", ..., "counts"),
        ("versions.bpy", 4, "versions.bpy"),
        ("config.image.width", "wide", "config.image.width"),
        ("config.world", ..., "config.*world"),
        ("sed", 3, "sed: unknown key; did you mean seed"),
    ],
)
def test_wrong_manifests(path, value, expected):
    document = Manifest.of(load_config("star"), {"bpy": "4.5"}).to_json()
    check(document, "dataset", "dataset.json")
    with pytest.raises(DataError, match=f"^dataset.json: .*{expected}"):
        check(damaged(document, path, value), "dataset", "dataset.json")


LINE = {"sample": "000001", "initial": "center", "final": "left"}


@pytest.mark.parametrize(
    ("path", "value"),
    [("sample", 1), ("sample", "1"), ("final", ...), ("final", "Left!"), ("x", 1)],
)
def test_wrong_split_lines(path, value):
    check(LINE, "split", "train.jsonl")
    with pytest.raises(DataError, match=f"^train.jsonl: .*{path}"):
        check(damaged(LINE, path, value), "split", "train.jsonl")


@pytest.mark.parametrize(("path", "value"), [("completion", ...), ("completion", 3), ("sample", 1)])
def test_wrong_predictions(path, value):
    line = {**LINE, "completion": "<answer>0.color.red</answer>"}
    check(line, "prediction", "p.jsonl")
    check({**line, "model": "any"}, "prediction", "p.jsonl")  # others may note more
    with pytest.raises(DataError, match=f"^p.jsonl: .*{path}"):
        check(damaged(line, path, value), "prediction", "p.jsonl")


@pytest.mark.parametrize("text", ["NaN", '{"a": [1, NaN]}', '{"a": -Infinity}', '{"a": 1e999}'])
def test_numbers_that_json_does_not_have(text):
    with pytest.raises(DataError, match="^here: "):
        parse_json(text, "here")


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "[" * 100_000])
def test_texts_that_are_no_json(text):
    with pytest.raises(DataError, match="^here: is not valid JSON"):
        parse_json(text, "here")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(json_values, st.sampled_from(["sample", "dataset", "split", "prediction", "config"]))
def test_no_document_breaks_the_check(document, schema):
    with pytest.raises(DataError, match="^anywhere: "):
        check(document, schema, "anywhere")


def places(document, path=()):
    """The path of everything in a document."""
    if isinstance(document, list):
        document = dict(enumerate(document))
    for key, value in document.items() if isinstance(document, dict) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.fixture(scope="module")
def reference():
    """Whether jsonschema alone accepts a sample."""
    files = {p.name: json.loads(p.read_text()) for p in SCHEMAS.glob("*.schema.json")}
    resources = [(name, Resource.from_contents(file)) for name, file in files.items()]
    registry = Registry().with_resources(resources)
    return Draft202012Validator(files["sample.schema.json"], registry=registry).is_valid


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_both_validators_judge_alike(document, reference, data):
    *parents, last = data.draw(st.sampled_from(list(places(document))))
    changed = copy.deepcopy(document)
    inner = changed
    for key in parents:
        inner = inner[key]
    inner[last] = data.draw(
        json_values | st.sampled_from([0, 1, 1.0, -1, 10**30, "000017", "red", "a/b.png", [], {}])
    )
    try:
        check(changed, "sample", "anywhere")
    except DataError:
        assert not reference(changed)
    else:
        assert reference(changed)


@pytest.mark.parametrize("key", [1, True, None, 2.5])
def test_keys_of_yaml_need_not_be_strings(key):
    with pytest.raises(DataError, match="^anywhere: "):
        check({**load_config("star").to_json(), key: 3}, "config", "anywhere")


def test_files(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match=f"{path}: there is no such file"):
        read_json(path)
    path.write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match=f"{path}: cannot be read"):
        read_json(path)
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be read"):
        read_json(tmp_path)


def test_lines_are_named_by_number(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(LINE) + "\n\n" + json.dumps({**LINE, "final": 3}) + "\n")
    with pytest.raises(DataError, match="train.jsonl, line 3: final"):
        read_jsonl(path, "split")
    path.write_text(json.dumps(LINE) + "\n\n" + json.dumps(LINE))
    assert read_jsonl(path, "split") == [LINE, LINE]

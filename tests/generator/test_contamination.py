"""`tvr validate --against`: scenes and answers that two data sets share."""

import json
from itertools import combinations

import pytest

from star_tvr.generator.contamination import Overlap, overlap
from star_tvr.generator.plan_files import plan_line
from star_tvr.generator.validate import validate
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config, preset_names
from star_tvr.schemas.dataset import Dataset
from tests.generator.command import refused, tvr
from tests.plans import write_dataset

FEW = ["objects.visible=[2, 4]", "num_samples=60"]


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Sixty plans of `star` with few objects."""
    return write_dataset(tmp_path_factory.mktemp("plans") / "star", load_config("star", FEW))


def changed(dataset, change):
    """The lines of its plans, after `change` of each object's dictionary and its number."""
    lines = []
    for line in (dataset.root / "plans" / "00000.jsonl").read_text().splitlines():
        document = json.loads(line)
        for state in document["states"].values():
            for k, entry in enumerate(state["objects"]):
                change(entry, k)
        lines.append(json.dumps(document) + "\n")
    return lines


def turn(entry, number):
    """Another scene, in which the same changes are possible."""
    entry["rotation"] = (entry["rotation"] + 0.5) % 6.28


def test_a_data_set_shares_all_with_itself(plans):
    found = overlap(plans, plans)
    assert (found.samples, found.positions, found.scenes) == (60, 60, 60)
    assert (found.numbers, found.answers) == (60, 60)
    places, answers = found.words()
    assert "in 60 of 60 samples, and are the same objects in 60; use another seed" in places
    assert "60 of 60 samples of the same number have the same answer" in answers


def test_size_and_number_of_samples_do_not_change_a_scene(plans, tmp_path):
    config = load_config("star", [*FEW, "num_samples=20", "image.width=64", "image.height=48"])
    other = write_dataset(tmp_path / "small", config)
    found = overlap(plans, other)
    assert (found.samples, found.scenes, found.numbers, found.answers) == (60, 20, 20, 20)
    assert overlap(other, plans).scenes == 20


@pytest.mark.parametrize("override", ["seed=1", "cameras.jitter=0.4", "objects.visible=[2, 5]"])
def test_another_seed_or_world_shares_nothing(plans, tmp_path, override):
    other = write_dataset(tmp_path / "other", load_config("star", [*FEW, override]))
    found = overlap(plans, other)
    assert (found.positions, found.scenes, list(found.words())) == (0, 0, [])


def test_presets_share_nothing(tmp_path):
    settings = ["num_samples=4"]
    found = {p: write_dataset(tmp_path / p, load_config(p, settings)) for p in preset_names()}
    for first, second in combinations(found.values(), 2):
        assert overlap(first, second).positions == 0, (first.root, second.root)


def test_the_same_answers_to_other_scenes(plans, tmp_path):
    other = write_dataset(tmp_path / "turned", plans.config, changed(plans, turn))
    found = overlap(plans, other)
    assert (found.positions, found.answers) == (0, 60) and found.expected < 3
    (words,) = found.words()
    assert words.startswith("60 of 60 samples of the same number have the same answer (")


def test_as_many_answers_as_chance_has_are_no_finding():
    for answers, said in ((12, False), (20, False), (60, True)):
        found = Overlap(1000, 0, 0, 1000, answers, 11.5)
        assert bool(list(found.words())) is said


def test_command(plans, tmp_path):
    other = write_dataset(tmp_path / "turned", plans.config, changed(plans, turn))
    done = tvr("validate", plans.root, "--against", other.root, "--json")
    assert done.returncode == 1, done.stderr
    (found,) = [f for f in map(json.loads, done.stdout.splitlines()) if "against" in f["field"]]
    assert found["field"] == f"against {other.root}"


def test_plans_alone_can_be_right(plans, tmp_path):
    other = write_dataset(tmp_path / "other", load_config("star", [*FEW, "seed=1"]))
    done = tvr("validate", plans.root, "--against", other.root)
    assert done.returncode == 0, done.stdout
    assert "60 plans checked, 0 findings" in done.stdout


def test_what_is_wrong_with_plans_is_named(plans, tmp_path):
    lines = [plan_line(Sampler.from_config(plans.config), i) for i in range(58)]
    documents = [json.loads(line) for line in lines]
    documents[3]["seed"] += 1
    documents[4]["answer"] = "0.color.red, 1.size.large, 1.shape.cube, 0.shape.cube"
    documents[5]["id"] = "000006"
    lines = [json.dumps(document) + "\n" for document in documents]
    other = write_dataset(tmp_path / "wrong", plans.config, lines)
    found = [str(f) for _, findings in validate(other) for f in findings]
    assert [line.split(": ", 1)[0] for line in found[:-1]] == [
        *("000003", "000004", "000006", "000006"),
    ]
    assert "000003: seed: does not follow" in found[0] and "000004: answer: " in found[1]
    assert "000006: id: is planned twice" in found[3]
    assert "58 of 60 plans are there; run tvr render --plan-only" in found[-1]
    (other.root / "plans" / "00000.jsonl").write_text("[]\n")
    found = [str(f) for _, findings in validate(other) for f in findings]
    assert "plans/00000.jsonl: line 1: " in found[0]


def test_rendered_samples_are_compared(star, tmp_path):
    config = Dataset.open(star).config
    planned = write_dataset(tmp_path / "planned", config)
    done = tvr("validate", star, "--against", planned.root, "--workers", "1")
    assert done.returncode == 1
    assert "in 8 of 8 samples, and are the same objects in 8; use another seed" in done.stdout
    other = write_dataset(tmp_path / "other", config.model_copy(update={"seed": 1}))
    done = tvr("validate", star, "--against", other.root, "--workers", "1")
    assert done.returncode == 0, done.stdout


def test_what_is_refused(plans, tmp_path):
    words = refused("validate", plans.root, "--against", tmp_path, status=1)
    assert f"{tmp_path}: is not a data set" in words
    lines = changed(plans, lambda entry, k: entry.update(x=1))
    other = write_dataset(tmp_path / "damaged", plans.config, lines)
    done = tvr("validate", plans.root, "--against", other.root)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "00000.jsonl, line 1: " in done.stderr.splitlines()[-1]

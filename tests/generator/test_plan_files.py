"""Files of plans: the same bytes however they were made; what cannot be rendered is refused."""

import copy
import json

import pytest

from star_tvr.generator.plan_files import read_jobs, stored_job, write_plans
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config
from star_tvr.schemas.records import plan_from_json, plan_to_json
from tests.generator.command import tvr

OPTIONS = ["--plan-only", "--config", "star", "--num-samples", "30"]


def plans(folder):
    return {p.name: p.read_bytes() for p in sorted((folder / "plans").glob("*.jsonl"))}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans") / "alone"
    assert tvr("render", folder, *OPTIONS, "--workers", "1").returncode == 0
    return plans(folder)


def test_workers_do_not_matter(alone, tmp_path):
    tvr("render", tmp_path / "d", *OPTIONS, "--workers", "3")
    assert plans(tmp_path / "d") == alone


def test_shards_in_any_order_make_the_same_files(alone, tmp_path):
    for part in (2, 0, 1):
        tvr("render", tmp_path / "d", *OPTIONS, "--workers", "1", "--shard", f"{part}/3")
    assert plans(tmp_path / "d") == alone


def test_what_is_there_is_planned_again_only_by_force(alone, tmp_path):
    config, path = load_config("star", ["num_samples=30"]), tmp_path / "plans" / "00000.jsonl"
    assert list(write_plans(tmp_path, config, range(10, 20))) == list(range(10, 20))
    first, *rest = path.read_text().splitlines(keepends=True)
    mark = json.dumps({**json.loads(first), "answer": "mine"}) + "\n"
    path.write_text("".join([mark, *rest]))
    assert list(write_plans(tmp_path, config, range(30))) == list(range(30))
    assert path.read_text().replace(mark, first).encode() == alone["00000.jsonl"]
    assert mark in path.read_text()
    assert list(write_plans(tmp_path, config, range(30), force=True)) == list(range(30))
    assert plans(tmp_path) == alone


def test_force_on_the_command_line_mends_a_plan(alone, tmp_path):
    assert tvr("render", tmp_path, *OPTIONS).returncode == 0
    path = tmp_path / "plans" / "00000.jsonl"
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first.replace('"id":', '"mine": 1, "id":'), *rest]))
    tvr("render", tmp_path, *OPTIONS)
    assert plans(tmp_path) != alone
    tvr("render", tmp_path, *OPTIONS, "--force")
    assert plans(tmp_path) == alone


def test_plans_are_not_planned_again(alone, tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_bytes(alone["00000.jsonl"])
    done = tvr("render", tmp_path / "d", *OPTIONS, "--from", file)
    assert done.returncode == 2 and "--from" in done.stderr and "--plan-only" in done.stderr
    assert not (tmp_path / "d").exists()


def test_a_line_is_the_plan_of_its_sample(alone):
    lines = alone["00000.jsonl"].decode().splitlines()
    sampler = Sampler.from_config(load_config("star"))
    assert [json.loads(line)["id"] for line in lines] == [f"{i:06d}" for i in range(30)]
    for index in (0, 7, 29):
        assert plan_from_json(json.loads(lines[index])) == sampler.plan(index)


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "00000.jsonl").write_text('{"mine": 1}\n')
    with pytest.raises(DataError, match="00000.jsonl: holds a line that is no plan"):
        list(write_plans(tmp_path, load_config("star"), range(3)))
    assert (tmp_path / "plans" / "00000.jsonl").read_text() == '{"mine": 1}\n'


# Reading them

SAMPLER = Sampler.from_config(load_config("trance"))
PLAN = json.loads(json.dumps(plan_to_json(SAMPLER.plan(3), SAMPLER.world, 64, 48)))


def reading(tmp_path, document):
    path = tmp_path / "sample.json"
    path.write_text(json.dumps(document))
    return read_jobs(path, SAMPLER.world)


def test_a_plan_is_read_as_it_was_written(tmp_path):
    (job,) = reading(tmp_path, PLAN)
    assert job.index == 3 and job.plan == PLAN


def everywhere(which, **changes):
    """The plan with changes to one object in all its states."""
    document = copy.deepcopy(PLAN)
    for state in document["states"].values():
        state["objects"][which].update(changes)
    return document


def one_object_less():
    document = copy.deepcopy(PLAN)
    document["states"]["final"]["objects"].pop()
    return document


def moved(x):
    document = copy.deepcopy(PLAN)
    document["states"]["initial"]["objects"][0]["position"] = [x, 0.0, 0.3]
    return document


def from_above():
    document = copy.deepcopy(PLAN)
    document["cameras"]["center"].update(position=[0, 0, 5], target=[0, 0, 0])
    return document


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (everywhere(0, index=300), ["objects.0.index", "300", "254"]),
        (everywhere(0, index=1), ["objects.0.index", "in order"]),
        (one_object_less(), ["do not lead to the final state"]),
        (moved(1e308), ["objects.0.position.0", "greater than the maximum"]),
        (moved(1e5), ["do not lead to the final state"]),
        (from_above(), ["cameras", "no direction for up"]),
        (everywhere(0, shape="teapot"), ["objects.0.shape", "teapot", "cylinder"]),
    ],
)
def test_a_plan_that_would_be_labelled_wrongly_is_refused(tmp_path, document, words):
    with pytest.raises(DataError) as caught:
        reading(tmp_path, document)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/sample.json: ") and all(word in text for word in words)


def test_a_damaged_sample_says_how_to_do_without_it(tmp_path):
    folder = tmp_path / "samples" / "00000" / "000003"
    folder.mkdir(parents=True)
    (folder / "sample.json").write_text("")
    with pytest.raises(DataError, match=f"sample.json: .*; delete {folder} to plan"):
        stored_job(tmp_path, 3, SAMPLER.world)

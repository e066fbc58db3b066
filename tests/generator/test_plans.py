"""Plans written without rendering: the same bytes however they were made."""

import json

import pytest

from star_tvr.generator.plans import write_plans
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config
from star_tvr.schemas.records import plan_from_json
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

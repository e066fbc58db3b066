"""Plans that are read from files: what cannot be rendered truthfully is refused before."""

import copy
import json

import pytest

from star_tvr.generator.stored import read_jobs, stored_job
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.sampler import Sampler
from star_tvr.schemas.config import load_config
from star_tvr.schemas.records import plan_to_json

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


def moved():
    document = copy.deepcopy(PLAN)
    document["states"]["initial"]["objects"][0]["position"] = [1e308, 0.0, 0.3]
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
        (moved(), ["do not lead to the final state"]),
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

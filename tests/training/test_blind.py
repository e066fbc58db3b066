"""The blind baseline: it finds what is planted, and nothing where there is nothing."""

import json
from dataclasses import replace

import pytest

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.card import BLIND, read_blind
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import commit_sample, sample_id
from star_tvr.training.blind import FEWEST, QUESTIONS, blind_baseline
from star_tvr.training.exports.export_dataset import export_dataset
from tests.generator.command import refused, tvr
from tests.plans import first_plans, write_dataset
from tests.training.discs import make_config, make_sample

ONE = ["objects.visible=[2, 3]", "transformations.count=1"]
COLOR = [*ONE, "transformations.attributes=[color]"]
OPEN = [*COLOR, "visibility.unbiased=true"]


def learnt(config, plans):
    """The results by the question's short name."""
    found = blind_baseline(plans, config)
    assert found.samples == len(plans)
    return {r.question: r for r in found.questions}


@pytest.fixture(scope="module")
def plans():
    """Plans of one change of color each, of which the listing says nothing."""
    return first_plans(load_config("star", OPEN), 300)


def test_a_planted_leak_is_found(plans):
    config = load_config("star", OPEN)
    found = learnt(config, [p for p in plans if p.transformations[0].object == 0])
    assert found["object"].right > 0.9 and found["object"].leaks
    assert 0.3 < found["object"].chance < 0.55
    assert not found["value"].leaks


def test_a_value_that_follows_from_the_listing_is_found(plans):
    follows = {"small": "gray", "medium": "blue", "large": "red"}
    changed = []
    for plan in plans:
        (change,) = plan.transformations
        target = plan.initial[change.object]
        if target.color != follows[target.size]:
            change = replace(change, value=follows[target.size])
            changed.append(replace(plan, transformations=(change,)))
    found = learnt(load_config("star", OPEN), changed)
    assert found["value"].right > 0.9 and found["value"].leaks
    assert not found["object"].leaks


def test_what_gives_nothing_away_is_at_chance(plans):
    found = learnt(load_config("star", OPEN), plans)
    assert list(found) == list(QUESTIONS)
    for name in ("object", "value", "answer"):
        assert found[name].low <= found[name].chance <= found[name].high, found[name]
    for name in ("count", "attribute"):  # there is only one
        assert (found[name].right, found[name].chance) == (1, 1)
    assert found["object"].asked == 90


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("star", [*ONE, "world.materials.metal=null", "transformations.attributes=[size, shape]"]),
        ("star", [*ONE, "objects.visible=[3, 4]", "objects.fixed=[{shape: cube, color: blue}]"]),
        ("star", ["objects.visible=[1, 2]", "transformations.count=[1, 4]"]),
        ("trance", ["objects.visible=[1, 3]", "transformations.count=[1, 3]"]),
        ("event", ["objects.visible=[2, 3]", "transformations.attributes=[position]"]),
    ],
)
def test_worlds_of_all_kinds(preset, overrides):
    config = load_config(preset, overrides)
    found = learnt(config, first_plans(config, FEWEST))
    assert list(found) == list(QUESTIONS)
    for result in found.values():
        assert 0 <= result.low <= result.right <= result.high <= 1
        assert 0 < result.chance <= 1 and result.asked >= 30


def test_moves_that_only_come_in_leave_nothing_to_ask_about():
    settings = ["transformations.attributes=[position]", "transformations.moves=[in]"]
    config = load_config("trance", [*ONE, *settings])
    found = learnt(config, first_plans(config, FEWEST))
    assert list(found) == ["count", "object", "answer"]
    assert found["object"].right == found["object"].chance == 0


def test_chance_knows_the_rules_of_the_world():
    rule = (
        "world.constraints=[{if: {shape: [cube, sphere, cylinder]}, then: {color: [gray, blue]}}]"
    )
    config = load_config("star", [*COLOR, rule])
    found = learnt(config, first_plans(config, FEWEST))
    assert found["value"].right == found["value"].chance == 1
    assert not found["value"].leaks and not found["answer"].leaks


def test_too_few_samples(plans, tmp_path):
    message = "99 samples are too few to learn from; at least 100 are needed"
    config = load_config("star", [*COLOR, f"num_samples={FEWEST - 1}"])
    with pytest.raises(DataError, match=message):
        blind_baseline(plans[: FEWEST - 1], config)
    dataset = write_dataset(tmp_path / "few", config)
    assert message in refused("stats", dataset.root, "--blind", status=1)
    assert not (dataset.root / BLIND).exists()


def test_an_export_is_refused_at_once_where_its_card_could_not_be_written(tmp_path):
    config = load_config("star", [*COLOR, "num_samples=1"])
    dataset = write_dataset(tmp_path / "data", config)
    (dataset.root / BLIND).write_text('{"samples": 3}')
    out = tmp_path / "out"
    with pytest.raises(DataError, match="blind.json: .*; delete it and run tvr stats --blind"):
        next(export_dataset(dataset, out, "parquet"))
    assert not out.exists()


def test_plans_alone(tmp_path):
    config = load_config("star", [*COLOR, f"num_samples={FEWEST}"])
    dataset = write_dataset(tmp_path / "plans", config)
    done = tvr("stats", dataset.root, "--blind", "--json")
    assert done.returncode == 0, done.stderr
    stored = json.loads((dataset.root / BLIND).read_text())
    assert json.loads(done.stdout)["blind"] == stored
    assert stored["samples"] == FEWEST
    assert [q["question"] for q in stored["questions"]] == list(QUESTIONS)
    assert not (dataset.root / "README.md").exists()


def test_the_card_shows_it(tmp_path):
    config = make_config("star", [*COLOR, f"num_samples={FEWEST}"])
    dataset = write_dataset(tmp_path / "discs", config, ["\n"])
    for index in range(FEWEST):
        commit_sample(dataset.root, sample_id(index), make_sample(config, index)[1])
    done = tvr("stats", dataset.root, "--blind")
    assert done.returncode == 0, done.stderr
    assert "what can be learnt without the pictures" in done.stdout
    text = (dataset.root / "README.md").read_text()
    assert "## Without the pictures" in text and "70 % of 100 samples" in text
    stored = read_blind(dataset.root)
    assert stored is not None
    for r in stored.questions:
        interval = f"{100 * r.low:.1f} to {100 * r.high:.1f}%"
        assert f"| {r.title} | {100 * r.right:.1f}% | {interval} | {100 * r.chance:.1f}% |" in text

    for content, words in (
        ("{}", "blind.json: samples: is missing; delete it and run tvr stats --blind again"),
        ("{", "blind.json: is not valid JSON"),
        ('{"samples": 100, "questions": [3]}', "blind.json: questions.0: 3 is not of type"),
    ):
        (dataset.root / BLIND).write_text(content)
        with pytest.raises(DataError, match=words) as caught:
            read_blind(dataset.root)
        assert str(caught.value).endswith("; delete it and run tvr stats --blind again")
    done = tvr("export", dataset.root, tmp_path / "out", "--format", "sharegpt")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "blind.json: questions.0: 3 is not of type" in done.stderr.splitlines()[-1]

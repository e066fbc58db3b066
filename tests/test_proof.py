"""The proof runs from its first command to its document, and goes on where it stopped."""

import json
from pathlib import Path

import pytest
import yaml

from examples.proof import __main__ as proof
from examples.proof import document, stages
from star_tvr.scenes.errors import TvrError
from star_tvr.schemas.config import load_config as scene_config
from star_tvr.schemas.dataset import Manifest, dumps
from star_tvr.training.config import load_train_config
from star_tvr.training.rewards import PRESETS

OUT = Path("proof")
POLICIES = [*stages.CORE, *stages.FURTHER]


def test_every_policy_has_a_name_and_a_configuration_of_its_own():
    assert len({policy.name for policy in POLICIES}) == len(POLICIES)
    runs = set()
    for policy in POLICIES:
        train, *tests = stages.commands(policy, OUT, OUT / "sft-2", stages.FULL)
        path, overrides = train[2], train[4::2]
        assert train[:2] == ["train", policy.kind] and set(train[3::2]) == {"--set"}
        config = load_train_config(policy.kind, path, overrides)
        runs.add(json.dumps(config.to_json() | {"output_dir": ""}, default=str))
        assert [test[3] for test in tests] == [f"cross-view/{split}" for split in stages.TESTS]
    assert len(runs) == len(POLICIES)
    presets = {load_train_config("grpo", *_training(p)).reward.preset for p in POLICIES if _grpo(p)}
    assert presets == set(PRESETS)


def _grpo(policy):
    return policy.kind == "grpo"


def _training(policy):
    train = stages.commands(policy, OUT, OUT / "sft-2", stages.FULL)[0]
    return train[2], train[4::2]


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_configurations_for_a_gpu(kind):
    path = stages.HERE / f"large-{kind}.yaml"
    assert load_train_config(kind, path).seed == yaml.safe_load(path.read_text())["seed"]


def test_the_document_needs_results(tmp_path):
    (tmp_path / "cross-view").mkdir()
    (tmp_path / "cross-view" / "dataset.json").write_text(
        dumps(Manifest.of(scene_config("proof"), {}).to_json())
    )
    with pytest.raises(TvrError, match=r"run python -m examples\.proof to its end first"):
        document.write(tmp_path, tmp_path / "proof.md")


def test_one_proof_to_a_folder(tmp_path):
    first = proof.Proof(tmp_path, 2, stages.SMALL)
    with pytest.raises(proof.ProofError, match="another proof.* still works here"):
        proof.Proof(tmp_path, 2, stages.SMALL)
    first.held.close()
    proof.Proof(tmp_path, 2, stages.SMALL)


def test_the_whole_way_on_a_small_scale(tmp_path, monkeypatch, capsys):
    out = tmp_path / "proof"
    core = [p for p in stages.CORE if p.name in ("star-0", "no-wrong-0")]
    monkeypatch.setattr(stages, "CORE", core)
    proof.run(out, "core", 2, stages.SMALL)
    text = (out / "proof.md").read_text()
    assert "GRPO, star" in text and "{{" not in text
    for picture in ("proof-curves.png", "proof-examples.png"):
        assert (out / "images" / picture).stat().st_size > 10_000
    done = json.loads((out / "stages.json").read_text())
    assert len(done) == 4 + 2 + 4 * 2 + 2 * 3

    # Nothing is run again, except what was not finished.
    capsys.readouterr()
    del done["evaluate star-0-test_id"]
    (out / "stages.json").write_text(json.dumps(done))
    proof.run(out, "core", 2, stages.SMALL)
    started = [line for line in capsys.readouterr().out.splitlines() if line.endswith("…")]
    assert [line.split("min")[1].strip() for line in started] == ["evaluate star-0-test_id …"]
    assert len(json.loads((out / "stages.json").read_text())) == len(done) + 1

"""The proof runs from its first command to its document, and goes on where it stopped."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
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
        train, *tests = _arguments(policy)
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


def _arguments(policy):
    return [s.arguments for s in stages.stages_of(policy, OUT, OUT / "sft-2", stages.FULL)]


def _training(policy):
    train = _arguments(policy)[0]
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


SMALL = """
import signal, sys
from examples.proof import __main__ as proof, stages
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
stages.CORE = [p for p in stages.CORE if p.name in ("star-0", "no-wrong-0")]
sys.exit(proof.main())
"""


def _start(out):
    """The proof on a small scale with two policies, as a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SMALL, "--small", "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _until(process, stage):
    """Wait until a stage begins."""
    assert f"{stage} …\n" in process.stdout, process.communicate()


def _begun(lines):
    return [line.removesuffix(" …") for line in lines.splitlines() if line.endswith(" …")]


def _records(out):
    return {path.name: path.read_text() for path in (out / "stages").iterdir()}


def test_the_whole_way_on_a_small_scale(tmp_path):
    out = tmp_path / "a proof"
    first = _start(out)
    _until(first, "train-sft-1")

    # What was started holds the folder, even if the first process is gone.
    first.kill()
    first.wait()
    with pytest.raises(TvrError, match="another proof.* still works here"):
        proof.hold(out)
    done = _records(out)
    assert len(done) == 4

    # After a kill it goes on where it was.
    os.killpg(first.pid, signal.SIGKILL)
    with (out / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # all have gone
    second = _start(out)
    printed, errors = second.communicate()
    assert second.returncode == 0, errors
    assert _begun(printed)[0] == "train-sft-1" and len(_begun(printed)) == 2 + 4 * 2 + 2 * 3
    text = (out / "proof.md").read_text()
    assert "GRPO, star" in text and "{{" not in text
    for picture in ("proof-curves.png", "proof-examples.png"):
        assert (out / "images" / picture).stat().st_size > 10_000
    records = _records(out)
    assert len(records) == 4 + 2 + 4 * 2 + 2 * 3 and records.items() > done.items()
    for record in map(json.loads, records.values()):
        assert record["seconds"] > 0 and record["threads"] in (1, 2) and record["arguments"]

    # Nothing is run again, except what was not finished, or with other arguments.
    del records["evaluate-star-0-test_id.json"]
    (out / "stages" / "evaluate-star-0-test_id.json").unlink()
    changed = out / "stages" / "split-same-view.json"
    changed.write_text(changed.read_text().replace("val=2", "val=3"))
    third = _start(out)
    printed, errors = third.communicate()
    assert third.returncode == 0, errors
    assert _begun(printed) == ["split-same-view", "evaluate-star-0-test_id"]
    assert len(_records(out)) == len(records) + 1

    # A proof of an earlier version has one record of them all.
    costs = document.costs(out)
    shutil.move(out / "stages", tmp_path)
    (out / "stages.json").write_text(
        json.dumps({name: json.loads(text) for name, text in _records(tmp_path).items()})
    )
    assert document.costs(out) == costs


def test_a_stage_that_fails_names_its_log_and_the_others_are_brought_to_their_end(tmp_path, capfd):
    todo = [
        stages.Stage("bad", ["split", str(tmp_path / "nothing")]),
        stages.Stage(
            "good", ["render", str(tmp_path / "plans"), "--plan-only", "--num-samples", "4"]
        ),
        stages.Stage("later", ["--help"], after="bad"),
    ]
    with proof.hold(tmp_path) as lock, pytest.raises(TvrError, match="the same command goes on"):
        proof.make(tmp_path, todo, lock, jobs=2)
    log = tmp_path / "logs" / "bad.log"
    assert f"bad: ended with status 1; see {log}" in capfd.readouterr().err
    assert "nothing" in log.read_text()
    assert list(_records(tmp_path)) == ["good.json"]


def test_a_failed_proof_ends_with_status_1(tmp_path):
    (tmp_path / "same-view").touch()
    process = _start(tmp_path)
    printed, errors = process.communicate()
    assert process.returncode == 1 and _begun(printed) == ["render-same-view"]
    assert f"see {tmp_path / 'logs' / 'render-same-view.log'}" in errors
    assert errors.splitlines()[-1].startswith(f"proof: {tmp_path}: a stage was stopped")


@pytest.mark.parametrize(
    "end, status",
    [
        (lambda process: process.terminate(), 1),
        (lambda process: os.killpg(process.pid, signal.SIGINT), 130),  # as a terminal does
    ],
)
def test_a_signal_ends_the_stages_under_way(tmp_path, end, status):
    process = _start(tmp_path)
    _until(process, "render-same-view")
    end(process)
    assert "the same command goes on" in process.communicate()[1]
    assert process.returncode == status and not _records(tmp_path)
    proof.hold(tmp_path).close()

"""Rewards and classes of models of the user's own."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from star_tvr.scenes.errors import ConfigError
from star_tvr.training import evaluate, grpo, report, sft
from star_tvr.training.checks import check_config
from star_tvr.training.config import ExtraRewards, load_train_config
from star_tvr.training.custom_rewards import custom_rewards
from star_tvr.training.errors import TrainingError
from star_tvr.training.models import check_model, load_model
from star_tvr.training.run_folder import open_run, stored_input
from star_tvr.training.user_code import load_module
from tests.generator.command import refused, tvr
from tests.training.conftest import read_log

EXAMPLES = Path(__file__).parents[2] / "examples/train"

GRPO = {
    "max_steps": 1,
    "save_steps": 1,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "max_completion_length": 4,
    "mask_truncated_completions": False,
    "lora": {"r": 2},
}

COMPLETIONS = [
    [{"role": "assistant", "content": "<answer>2.color.red</answer>"}],
    [{"role": "assistant", "content": "nothing"}],
]
COLUMNS = {"truth": ["2.color.cyan", "0.shape.cube"], "sample": ["000000", "000001"]}


@pytest.fixture
def reward(tmp_path, monkeypatch):
    """A function from the text of a file to its reward `mine`, weighted by 2."""
    monkeypatch.chdir(tmp_path)

    def load(text):
        Path("mine.py").write_text(text)
        [function] = custom_rewards(ExtraRewards.parse({"mine.py:mine": 2}, "x"))
        return function

    return load


def test_a_function_gets_what_trl_gives_and_is_weighted(reward):
    mine = reward(
        "def mine(completions, truth, **columns):\n"
        "    return [len(truth[0]) + len(columns['sample'][0]), None]\n"
    )
    assert mine.__name__ == "mine"
    assert mine(COMPLETIONS, **COLUMNS) == [36.0, None]


def test_the_example():
    name = f"{EXAMPLES / 'own_reward.py'}:count_reward"
    [function] = custom_rewards(ExtraRewards.parse({name: 0.5}, "x"))
    assert function(COMPLETIONS, **COLUMNS) == [0.5, 0.0]


def test_a_module_is_found_as_python_finds_it_and_else_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("helper_of_own.py").write_text("VALUE = 3\n")
    Path("own_module.py").write_text(
        "from helper_of_own import VALUE\ndef f(completions, **columns): return [VALUE]\n"
    )
    before = list(sys.path)
    for name in ("own_module:f", "own_module.py:f"):
        [function] = custom_rewards(ExtraRewards.parse({name: 1}, "x"))
        assert function(["x"]) == [3.0]
    assert sys.path == before
    Path("json.py").write_text("def f(completions, **columns): return [4]\n")
    [function] = custom_rewards(ExtraRewards.parse({"json.py:f": 1}, "x"))
    assert function(["x"]) == [4.0]
    assert json.loads("1") == 1


def test_what_is_off_is_not_loaded(tmp_path):
    assert custom_rewards(ExtraRewards.parse({f"{tmp_path}/no.py:f": 0}, "x")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "mine.py: there is no such file; paths are relative to"),
        ("other = 1", "mine.py has no mine; name a function"),
        ("mine = 1", "mine in mine.py is a int; name a function"),
        ("def mine(completions): ...", r"unexpected keyword argument.*write def f\(completions"),
        ("def mine(texts, **columns): ...", "missing a required argument: 'texts'; write def f"),
        ("async def mine(completions, **columns): ...", "is async; write a plain function"),
        ("class mine: ...", "is a class; name a function"),
        ("def mine(:", "mine.py line 1: SyntaxError: invalid syntax; mend it"),
        ("x = 1\nx.y", "mine.py line 2: AttributeError: 'int' .* 'y'; mend it"),
        ("raise SystemExit(3)", "mine.py line 1: SystemExit: 3; mend it"),
        ("import no_such_thing", "mine.py line 1: ModuleNotFoundError: .*; install that"),
    ],
)
def test_what_is_refused_before_weights_are_loaded(
    write_config, tmp_path, monkeypatch, text, message
):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("mine.py").write_text(text)
    path = write_config(**GRPO, reward={"extra": {"mine.py:mine": 1}})
    config = load_train_config("grpo", path)  # reading runs nothing
    with pytest.raises(ConfigError, match=rf"config.yaml: reward.extra.mine.py:mine: .*{message}"):
        check_config(config)
    assert not config.output_dir.exists()


def test_a_module_that_is_not_there():
    with pytest.raises(ConfigError, match="no module no_such; install it, or name its file, such"):
        load_module("imports", "no_such.thing")
    with pytest.raises(ConfigError, match="imports: 'a b' is neither a file"):
        load_module("imports", "a b")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("[1.0]", "returned 1 for 2 completions; return a list"),
        ("[1.0, 'good']", "returned 'good' among its rewards"),
        ("[1.0, float('nan')]", "returned nan among its rewards"),
        ("None", "returned None; return a list with one number"),
        ("'12'", "returned '12'; return a list"),
        ("columns['no']", "mine.py line 2: KeyError: 'no'; mend it and start again"),
    ],
)
def test_what_a_function_returns_is_looked_at(reward, result, message):
    mine = reward(f"def mine(completions, **columns):\n    return {result}\n")
    with pytest.raises(TrainingError, match=f"^reward.extra.mine.py:mine: .*{message}"):
        mine(COMPLETIONS, **COLUMNS)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"referenc": 1}, "reward.extra.referenc: unknown key; did you mean reference?"),
        ({"a.py:f g": 1}, "unknown key; name yours as file.py:function"),
        ({"a.py:accuracy_reward": 1}, "another reward is logged as accuracy_reward, too"),
        ({"a.py:f": 1, "b.py:f": 1}, "another reward is logged as f, too; rename the function"),
        ({"a.py:f": -1}, "less than the minimum of 0"),
    ],
)
def test_names_and_weights(write_config, extra, message):
    with pytest.raises(ConfigError, match=message):
        load_train_config("grpo", write_config(reward={"extra": extra}))


def test_weights_of_trl_count_functions_of_ones_own(write_config):
    values = {**GRPO, "reward": {"extra": {"a.py:f": 1, "b.py:g": 0, "reference": 1}}}
    load_train_config("grpo", write_config(**values, reward_weights=[0, 1, 1, 2]))
    with pytest.raises(ConfigError, match="holds 3 numbers for 4 rewards: format"):
        load_train_config("grpo", write_config(**values, reward_weights=[1, 1, 1]))


def test_a_run_is_paid_by_it_and_records_it(
    write_config, dataset, tiny, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    mine = Path("mine.py")
    mine.write_text("def mine(completions, **columns): return [3] * len(completions)\n")
    path = write_config(
        **GRPO,
        model=str(tiny["tiny"]),
        reward={"extra": {"mine.py:mine": 0.5}},
        reward_weights=[0, 0, 2],
    )
    folder = grpo.run(path)
    [line] = [line for line in read_log(folder) if "reward" in line]
    assert line["rewards/mine/mean"] == 1.5
    assert line["reward"] == 3.0  # by reward_weights the only one
    stored = yaml.safe_load((folder / "config.yaml").read_text())
    assert stored["reward"]["extra"]["mine.py:mine"] == 0.5
    assert "Reward mine" in report.run(folder).read_text()
    first = json.loads((folder / "run.json").read_text())["code"]
    assert first == {"mine.py": [load_module("x", "mine.py").sha256]}

    # Going on with another content is said once, and both are on record.
    mine.write_text(mine.read_text().replace("3", "4"))
    longer = load_train_config("grpo", path, ["max_steps=2"])
    capsys.readouterr()
    for _ in range(2):  # as by two processes
        open_run(longer, dataset)
    assert capsys.readouterr().err.count("mine.py has changed since the run was last begun") == 1
    code = json.loads((folder / "run.json").read_text())["code"]["mine.py"]
    assert code == [*first["mine.py"], load_module("x", "mine.py").sha256]


def test_a_configuration_beside_a_model_runs_nothing(tiny, dataset, write_config, tmp_path):
    folder = shutil.copytree(tiny["tiny"], tmp_path / "run")
    trap, sprung = tmp_path / "trap.py", tmp_path / "sprung"
    trap.write_text(f"open({str(sprung)!r}, 'w')\ndef f(completions, **columns): ...\n")
    document = yaml.safe_load(write_config(model=str(folder)).read_text())
    document |= {"imports": [str(trap)], "reward": {"extra": {f"{trap}:f": 1}}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"kind": "grpo", **document}))
    assert stored_input(str(folder)) is not None
    split, out = "cross-view/test_ood", folder / "out"
    evaluate.run(dataset.root, split, str(folder), out, limit=1, max_new_tokens=1)
    report.run(folder)
    with pytest.raises(ConfigError, match="imports"):  # a run of another configuration
        open_run(load_train_config("grpo", write_config(**document | {"imports": []})), dataset)
    assert not sprung.exists()
    with pytest.raises(ConfigError):  # it would have been
        check_config(load_train_config("grpo", write_config(**document | {"split": "a/b"})))
    assert not sprung.exists()
    check_config(load_train_config("grpo", write_config(**document)))
    assert sprung.exists()


@pytest.fixture
def own_model(tiny, tmp_path):
    """A model of the type that examples/train/own_model.py registers."""
    folder = shutil.copytree(tiny["tiny"], tmp_path / "own")
    described = json.loads((folder / "config.json").read_text())
    described |= {"model_type": "scaled_vl", "architectures": ["ScaledVL"]}
    (folder / "config.json").write_text(json.dumps(described))
    weights = load_model(str(tiny["tiny"])).state_dict()  # by the names of its modules
    save_file({**weights, "scale": torch.ones(1)}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_class_that_transformers_does_not_know(own_model, dataset, write_config, tmp_path):
    with pytest.raises(ConfigError, match="does not know.*imports in a configuration.*--import"):
        check_model(str(own_model))
    values = {"model": str(own_model), "max_steps": 1, "per_device_train_batch_size": 1}
    example = str(EXAMPLES / "own_model.py")
    folder = sft.run(write_config(**values, learning_rate=0.01, imports=[example]))
    assert json.loads((folder / "config.json").read_text())["model_type"] == "scaled_vl"
    assert load_file(folder / "model.safetensors")["scale"].item() != 1.0
    assert list(json.loads((folder / "run.json").read_text())["code"]) == [example]

    # The configuration beside it is not obeyed in evaluation: the user names the file again.
    out = tmp_path / "out"
    arguments = ["--model", str(folder), "--out", str(out), "--limit", "1"]
    arguments += ["--split", "cross-view/test_ood", "--max-new-tokens", "2"]
    without = refused("evaluate", dataset.root, *arguments)
    assert "does not know" in without and "--import" in without
    done = tvr("evaluate", dataset.root, *arguments, "--import", example)
    assert done.returncode == 0, done.stderr
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 1


def test_imports_that_cannot_be(dataset, tmp_path):
    place = [str(dataset.root), "--split", "cross-view/test_ood", "--out", str(tmp_path / "out")]
    missing = str(tmp_path / "no.py")
    asked = ["evaluate", *place, "--model", "x", "--import", missing]
    assert f"--import: {missing}: there is no such file" in refused(*asked)
    served = refused(*asked, "--endpoint", "http://localhost:1/v1")
    assert "--import" in served and "does not go with an endpoint" in served
    asked = ["merge", str(tmp_path), str(tmp_path / "merged"), "--import", missing]
    assert f"--import: {missing}: there is no such file" in refused(*asked)

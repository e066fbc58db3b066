"""Two processes with gloo give what one gives with twice the accumulation, sharded or not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

from star_tvr.training import sft
from tests.training.conftest import read_log

# Every process has a random generator of its own, so what it samples depends on how many there
# are. Here a draw depends on the completion's place in the whole batch, and on nothing else.
# Accelerate shards models on GPUs only; PyTorch can do it on the CPU too, and does it here.
SCRIPT = """
import os, sys
import torch
from accelerate.state import AcceleratorState, DistributedType, PartialState
from transformers import GenerationMixin

begin = AcceleratorState.__init__

def begin_sharded(self, *arguments, fsdp_plugin=None, **named):
    begin(self, *arguments, fsdp_plugin=fsdp_plugin, **named)
    if fsdp_plugin is not None:
        self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP

AcceleratorState.__init__ = begin_sharded

rank, calls, drawn = int(os.environ.get("RANK", "0")), [0], [0]
generate = GenerationMixin.generate

def counted(self, *arguments, **named):
    calls[0], drawn[0] = calls[0] + 1, 0
    return generate(self, *arguments, **named)

def multinomial(weights, num_samples):
    drawn[0] += 1
    rows = []
    for row in range(len(weights)):
        seed = hash((rank * len(weights) + row, calls[0], drawn[0]))
        rows.append(torch.rand((), generator=torch.Generator().manual_seed(seed % 2**40)))
    levels = torch.stack(rows)[:, None].to(weights)
    return (weights.cumsum(-1) < levels).sum(-1, keepdim=True).clamp(max=weights.shape[-1] - 1)

GenerationMixin.generate, torch.multinomial = counted, multinomial
from star_tvr.training import callbacks, grpo, sft
from star_tvr.training.errors import TrainingError

class Poison(callbacks.Speed):
    def on_step_end(self, args, state, control, model=None, **_):
        if rank == 1:
            with torch.no_grad():
                next(model.parameters()).to_local().fill_(float("nan"))

for config in sys.argv[3:]:  # ends before a checkpoint is written, of which each process has a part
    sound, callbacks.Speed = callbacks.Speed, Poison
    try:
        sft.run(config)
    except TrainingError as problem:
        print(f"process {rank}: {problem}", flush=True)
    callbacks.Speed = sound
sys.exit({"grpo": grpo, "sft": sft}[sys.argv[1]].main([sys.argv[2]]))
"""


FSDP = Path(__file__).parents[2] / "examples" / "train" / "accelerate-fsdp2.yaml"


def launcher_settings(path) -> dict[str, str]:
    """The environment that `accelerate launch` makes of its configuration, in full precision."""
    given = launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    given, _, _ = _validate_launch_command(given)
    environment = prepare_multi_gpu_env(given)
    return {k: v for k, v in environment.items() if k.startswith(("FSDP_", "ACCELERATE_USE_"))}


def start(script, kind, configs, processes, settings=None):
    command = [sys.executable]
    if processes > 1:
        # accelerate launch starts several processes on a CPU through MPI only; torchrun needs none.
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": "."}
    environment |= settings or {}
    return subprocess.Popen(
        [*command, str(script), kind, *map(str, configs)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("kind", ["grpo", "sft"])
def test_two_processes_are_as_one_with_twice_the_accumulation(
    kind, tiny, warm, write_config, tmp_path
):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # What an untrained model says is worth nothing, so GRPO would learn nothing from it.
    model = warm("tiny") if kind == "grpo" else tiny["tiny"]
    # Plain gradient descent: Adam divides by the gradient's size and makes noise of zeros.
    values = {"model": str(model), "max_steps": 2, "optim": "sgd", "learning_rate": 0.05}
    values |= {"rows": {"views": "all"}, "logging_steps": 1, "lr_scheduler_type": "constant"}
    values |= {"max_grad_norm": 0, "save_steps": 2, "per_device_eval_batch_size": 2}
    values |= {"validation": {"split": "cross-view/test_ood", "limit": 3, "max_new_tokens": 4}}
    if kind == "grpo":
        values |= {"per_device_train_batch_size": 4, "num_generations": 4}
        values |= {"max_completion_length": 12, "mask_truncated_completions": False}
        values |= {"reward": {"extra": {"consistency": 1.0}}}
    else:
        values |= {"per_device_train_batch_size": 1, "completion": {"style": "compact"}}
    folders = {name: tmp_path / name for name in ("one", "two", "sharded")}
    running = []
    for name, folder in reversed(folders.items()):
        processes = 1 if name == "one" else 2
        more = {"output_dir": str(folder), "gradient_accumulation_steps": 4 // processes}
        config = write_config(f"{name}.yaml", **values | more)
        if kind == "sft" and name == "one":
            sft.run(config)  # nothing is drawn at random here
        else:
            configs, settings = [config], {}
            if name == "sharded":
                settings = launcher_settings(FSDP)
                if kind == "sft":
                    poisoned = {**values, "max_steps": 1, "output_dir": str(tmp_path / "poisoned")}
                    configs.append(write_config("poisoned.yaml", **poisoned))
            running.append(start(script, kind, configs, processes, settings))
    for process in running:
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output
        if process.args[-1].endswith("poisoned.yaml"):
            for rank in (0, 1):
                stopped = rf"process {rank}: .*visual.*weight is no longer a number at step 1"
                assert re.search(stopped, output), output
            assert not list((tmp_path / "poisoned").glob("checkpoint-*"))
    before = load_file(model / "model.safetensors")
    one, weights = folders["one"], load_file(folders["one"] / "model.safetensors")
    moved = {key: (before[key] - w).abs().max() for key, w in weights.items()}
    assert moved["lm_head.weight"] > 1e-4 and max(moved.values()) < 1
    for name in ("two", "sharded"):
        logs = [[x for x in read_log(f) if "loss" in x] for f in (one, folders[name])]
        assert len(logs[0]) == len(logs[1]) == 2
        for a, b in zip(*logs, strict=True):
            for key in ("loss", "reward", "count_gap", "completions/mean_length", "num_tokens"):
                if key in a:
                    assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6), (name, key)
        # Each process has asked its share, and all of them know all answers.
        asked = [[x for x in read_log(f) if "eval_tacc" in x] for f in (one, folders[name])]
        assert len(asked[0]) == len(asked[1]) == 1
        for key in set(asked[0][0]) - {"eval_runtime"}:
            assert asked[0][0][key] == pytest.approx(asked[1][0][key]), (name, key)
        others = load_file(folders[name] / "model.safetensors")
        assert others.keys() == weights.keys()
        for key, weight in weights.items():  # each layer by what it learned itself
            apart = (others[key] - weight).abs().max()
            assert apart < 1e-2 * moved[key] + 1e-7, (name, key, moved[key], apart)
        assert json.loads((folders[name] / "run.json").read_text())["status"] == "done"
    assert (folders["sharded"] / "checkpoint-2" / "pytorch_model_fsdp.bin").is_file()
    if kind == "sft":  # one goes on alone where two were, with as many rows in a step
        for name in ("one", "two"):
            more = {"output_dir": str(folders[name]), "gradient_accumulation_steps": 4}
            sft.run(write_config(f"{name}-on.yaml", **values | more | {"max_steps": 3}))
        ended = [load_file(folders[name] / "model.safetensors") for name in ("one", "two")]
        assert any(not ended[0][key].equal(weights[key]) for key in weights)
        for key, weight in ended[0].items():
            assert (ended[1][key] - weight).abs().max() < 1e-2 * moved[key] + 1e-7, key


def test_every_way_to_launch(tiny, write_config, tmp_path):
    """From the repository, where `training` is a folder, and as the installed package."""
    values = {"model": str(tiny["tiny"]), "max_steps": 1, "max_completion_length": 4}
    values |= {"per_device_train_batch_size": 4, "num_generations": 2, "save_strategy": "no"}
    python = [sys.executable, "-m"]
    cpu = [*python, "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    commands = {
        "folder": [*python, "training.grpo"],
        "package": [*python, "star_tvr.training.grpo"],
        "accelerate": [*cpu, "-m", "star_tvr.training.grpo"],
    }
    running = {}
    for name, command in commands.items():
        config = write_config(f"{name}.yaml", **values, output_dir=str(tmp_path / name))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
        running[name] = subprocess.Popen(
            [*command, str(config)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    for name, process in running.items():
        output, problems = process.communicate(timeout=600)
        assert process.returncode == 0, (name, problems)
        assert output.splitlines()[-1] == str(tmp_path / name)
        assert json.loads((tmp_path / name / "run.json").read_text())["status"] == "done"

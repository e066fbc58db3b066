"""Two processes with gloo give what one gives with twice the accumulation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training import runs, sft

# Every process has a random generator of its own, so what it samples depends on how many there
# are. Here a draw depends on the completion's place in the whole batch, and on nothing else.
SCRIPT = """
import os, sys
import torch
from transformers import GenerationMixin

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
from training import grpo, sft
sys.exit({"grpo": grpo, "sft": sft}[sys.argv[1]].main(sys.argv[2:]))
"""


def start(script, kind, config, processes):
    command = [sys.executable]
    if processes > 1:
        # accelerate launch starts several processes on a CPU through MPI only; torchrun needs none.
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": "."}
    return subprocess.Popen(
        [*command, str(script), kind, str(config)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("kind", ["grpo", "sft"])
def test_two_processes_are_as_one_with_twice_the_accumulation(kind, tiny, write_config, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # Plain gradient descent: Adam divides by the gradient's size and makes noise of zeros.
    model = tiny["tiny"]
    if kind == "grpo":  # what an untrained model says is worth nothing, so nothing is learned
        warm = {"max_steps": 16, "learning_rate": 0.01, "per_device_train_batch_size": 6}
        model = sft.run(write_config(model=str(model), output_dir=str(tmp_path / "warm"), **warm))
    values = {"model": str(model), "max_steps": 2, "optim": "sgd", "learning_rate": 0.05}
    values |= {"rows": {"views": "all"}, "logging_steps": 1, "lr_scheduler_type": "constant"}
    values |= {"max_grad_norm": 0}
    if kind == "grpo":
        values |= {"per_device_train_batch_size": 8, "num_generations": 4}
        values |= {"max_completion_length": 12, "mask_truncated_completions": False}
        values |= {"reward": {"extra": {"consistency": 1.0}}}
    else:
        values |= {"per_device_train_batch_size": 2, "completion": {"style": "compact"}}
    running = []
    one, two = (str(tmp_path / name) for name in ("one", "two"))
    for processes, folder in ((2, two), (1, one)):
        more = {"output_dir": folder, "gradient_accumulation_steps": 2 // processes}
        config = write_config(f"{processes}.yaml", **values | more)
        if kind == "sft" and processes == 1:
            sft.run(config)  # nothing is drawn at random here
        else:
            running.append(start(script, kind, config, processes))
    for process in running:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    logs = [[x for x in runs.read_log(Path(f)) if "loss" in x] for f in (one, two)]
    assert len(logs[0]) == len(logs[1]) == 2
    for a, b in zip(*logs, strict=True):
        for key in ("loss", "reward", "count_gap", "completions/mean_length", "num_tokens"):
            if key in a:
                assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6), key
    before = load_file(model / "model.safetensors")
    weights = [load_file(Path(f) / "model.safetensors") for f in (one, two)]
    moved = max((before[k] - w).abs().max() for k, w in weights[0].items())
    apart = max((weights[1][k] - w).abs().max() for k, w in weights[0].items())
    assert moved > 1e-4 and apart < 1e-2 * moved, (moved, apart)
    assert json.loads((Path(two) / "run.json").read_text())["status"] == "done"
    assert torch.isfinite(moved)

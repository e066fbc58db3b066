"""verifiers finds the installed package, validates its tasks and scores traces."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import verifiers.v1 as vf
from reporting import SPLIT, expected, milliseconds, report, right_answer
from verifiers.v1.state import state_cls
from verifiers.v1.trace import TraceTask
from verifiers.v1.utils.loaders import load_taskset, taskset_config_type

from star_tvr import Episodes

folder = sys.argv[1]
config = taskset_config_type("tvr-verifiers")(id="tvr-verifiers", dataset=folder, split=SPLIT)
taskset = load_taskset(config)
episodes = Episodes(folder, SPLIT)
tasks, again = list(taskset), list(taskset)
assert len(tasks) == len(episodes)


def reward(task, reply):
    """The sum of the rewards that verifiers gives to a trace that ends in this reply."""
    data = TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
    seat = vf.AgentInfo(config=vf.AgentConfig(), name="solver", trainable=False)
    trace = vf.Trace(task=data, state=state_cls(type(task))(), agent=seat, root_reply=reply)
    asyncio.run(task.score(trace))
    assert set(trace.rewards) == {"format", "accuracy"}
    return trace.reward


oracle, silence = [], []
for task, other in zip(tasks, again, strict=True):
    assert task.data == other.data and task.key == other.key  # the same pictures in a group
    parts = task.data.prompt[0].content
    assert [part.type for part in parts].count("image_url") == 2
    shown = json.dumps([m.model_dump(mode="json") for m in task.data.prompt])
    assert task.data.truth not in shown + task.data.system_prompt
    oracle.append(reward(task, right_answer(task.data.truth)))
    silence.append(reward(task, ""))

command = ["vf-validate", "tvr-verifiers", "--only-gold", "-o", "validated"]
options = ["--taskset.dataset", folder, "--taskset.split", SPLIT, "--runtime.type", "subprocess"]
subprocess.run([Path(sys.executable).with_name(command[0]), *command[1:], *options], check=True)
(found,) = Path("validated").rglob("results.jsonl")
rows = [json.loads(line) for line in found.read_text().splitlines()]
assert len(rows) == len(tasks) and all(row["valid"] for row in rows), rows

due = [expected(episodes, k) for k in range(len(tasks))]
report(
    "verifiers",
    "load_taskset, Task.score, vf-validate",
    oracle,
    silence,
    [best for best, _ in due],
    [least for _, least in due],
    milliseconds(lambda: next(iter(taskset))),
)

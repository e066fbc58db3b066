"""OpenEnv's own server and client: questions and answers over HTTP on the loopback."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests
from openenv.core import GenericEnvClient
from reporting import SPLIT, expected, milliseconds, report, right_answer

from star_tvr import Episodes

OTHER = "cross-view/test_ood"
EXAMPLE = Path(__file__).parents[2] / "examples" / "environments" / "openenv"

folder = sys.argv[1]
episodes = Episodes(folder, SPLIT)
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
server = subprocess.Popen(
    [sys.executable, "-m", "uvicorn", "server:app", "--port", str(port), "--log-level", "warning"],
    env={**os.environ, "TVR_DATASET": folder, "TVR_SPLIT": SPLIT},
    cwd=EXAMPLE,
)
url = f"http://127.0.0.1:{port}"


def ready() -> bool:
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.ConnectionError:
        assert server.poll() is None, "the server ended"
        return False


def ask(path, **body):
    return requests.post(f"{url}/{path}", json=body, timeout=60)


try:
    while not ready():
        time.sleep(0.1)
    splits = [s["name"] for s in requests.get(f"{url}/tvr/splits", timeout=60).json()]
    assert splits == episodes.splits()
    assert ask("tvr/num_tasks", split=OTHER).json() == {"num_tasks": episodes.count(OTHER)}
    task = ask("tvr/task", split=OTHER, index=1).json()["task"]
    assert task == {"split": OTHER, "index": 1, **episodes.reset(1, OTHER).pair.to_json()}
    assert ask("tvr/task", split=OTHER, index=99).status_code == 400
    assert len(ask("tvr/tasks", split=SPLIT).json()["tasks"]) == len(episodes)

    oracle, silence = [], []
    with GenericEnvClient(base_url=url).sync() as client:
        for index, episode in enumerate(episodes):
            for scores, answer in (
                (oracle, right_answer(episodes.truth(index))),
                (silence, ""),
            ):
                shown = client.reset(split=SPLIT, index=index)
                assert shown.observation["messages"] == episode.openai_messages and not shown.done
                assert client.state()["index"] == index
                end = client.step({"completion": answer})
                assert end.done
                scores.append(end.reward)
    due = [expected(episodes, k) for k in range(len(episodes))]
    report(
        "openenv",
        "uvicorn, GenericEnvClient, TaskProvider over HTTP",
        oracle,
        silence,
        [best for best, _ in due],
        [least for _, least in due],
        milliseconds(lambda: episodes[0].openai_messages),
    )
finally:
    server.terminate()
    server.wait(30)

"""What once fell, and a few fresh attacks of every kind; `make fuzz` tries thousands."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.sandbox import Case, Outcome, judge

ROOT = Path(__file__).parents[1]
CORPUS = sorted((ROOT / "tests" / "fuzz" / "corpus").glob("*.json"))


def fuzz(*arguments):
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)


def test_nothing_falls():
    done = fuzz(*CORPUS, "--inputs", "60", "--seed", "1")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


PLANTED: dict[str, Any] = {
    "writes outside/x": {"command": ["stats", "data", "--out", "outside/x"]},
    "success: it is planted": {"command": ["stats", "data"], "wrong": "it is planted"},
}

SAID = {
    "prints the control character '\\x1b'": (0, "\x1b[2J"),
    "prints a line of more than 5,000 characters": (0, "x" * 6_000),
    "unnamed ValueError: 3": (1, "error: ValueError: 3; --debug says more"),
    "exit status 3": (3, "no"),
    "fails without a word": (2, "\n"),
    "does not name the file: error: it is wrong": (1, "error: it is wrong"),
}
"""What no command says or does, as far as we know."""


def test_what_must_not_be_is_noticed(tmp_path):
    """A judge that sees nothing would pass everything."""
    files = []
    for number, case in enumerate(PLANTED.values()):
        files.append(tmp_path / f"{number}.json")
        whole = {"name": f"sample 0 {number}", "needs": ["data"], "changes": {}, **case}
        files[-1].write_text(json.dumps(whole))
    done = fuzz(*files)
    assert done.returncode == 1, done.stderr
    for problem in PLANTED:
        assert f"sample: {problem}" in done.stdout


@pytest.mark.parametrize("problem", SAID)
def test_what_must_not_be_said_is_noticed(problem, tmp_path):
    status, output = SAID[problem]
    case = Case("sample 0 0", ["data"], ["stats", "data"], {"data/dataset.json": b"{}"})
    outcome = Outcome(case, status, output, 0.1)
    judge(outcome, [], tmp_path)
    assert outcome.problems == [problem]


def test_an_input_is_the_same_every_time():
    first, second = (
        fuzz("--kind", "predictions", "--seed", "7", "--only", "3").stdout for _ in range(2)
    )
    assert "'predictions.jsonl': " in first
    assert first.partition("status")[0] == second.partition("status")[0]


def audit(url):
    command = [sys.executable, "-m", "tests.audit", "--url", url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_an_audit_without_a_network_says_so():
    done = audit("http://127.0.0.1:9/v1/querybatch")
    assert done.returncode == 2
    assert done.stderr.startswith("audit: could not look: http://127.0.0.1:9/")
    assert len(done.stderr.splitlines()) == 1


class Vulnerabilities(BaseHTTPRequestHandler):
    """Answers as osv.dev documents it: numpy has one, the others none."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["queries"]
        assert all(q["version"] and q["package"]["ecosystem"] == "PyPI" for q in asked)
        names = [q["package"]["name"] for q in asked]
        results = [{"vulns": [{"id": "GHSA-1"}]} if n == "numpy" else {} for n in names]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"results": results}).encode())

    def log_message(self, *_):
        pass


def test_an_audit_names_what_is_known():
    with HTTPServer(("127.0.0.1", 0), Vulnerabilities) as server:
        threading.Thread(target=server.handle_request).start()
        done = audit(f"http://127.0.0.1:{server.server_address[1]}/")
    assert done.returncode == 1, done.stderr
    name, count = done.stdout.splitlines()
    assert name.startswith("numpy ") and name.endswith("https://osv.dev/vulnerability/GHSA-1")
    assert count.endswith(" packages, 1 known vulnerabilities")

"""What once fell, and a few fresh attacks of every kind; `make fuzz` tries thousands."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CORPUS = sorted((ROOT / "tests" / "fuzz" / "corpus").glob("*.json"))


def fuzz(*arguments):
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)


def test_nothing_falls():
    done = fuzz(*CORPUS, "--inputs", "100", "--seed", "1")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


PLANTED: dict[str, Any] = {
    "writes outside/x": {"command": ["stats", "data", "--out", "outside/x"]},
    "success: it is planted": {"command": ["stats", "data"], "wrong": "it is planted"},
    "prints the control character '\\x1b'": {"command": ["stats", "no\x1b[2J"]},
    "prints a line of more than 5,000 characters": {"command": ["stats", "x" * 6_000]},
}


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

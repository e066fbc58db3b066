"""Evaluation over HTTP: against servers that misbehave, and against a real one."""

import base64
import gzip
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.schemas.records import PAIR_KEYS, Pair
from star_tvr.training import endpoint_backend, evaluate, sft
from star_tvr.training.backends import Decoding
from star_tvr.training.config import PromptConfig, load_train_config
from star_tvr.training.endpoint_backend import Endpoint, EndpointError, read_completion, retry_after
from star_tvr.training.initial_model import load_initial_model
from star_tvr.training.local_backend import LoadedModel
from star_tvr.training.merge import merge
from star_tvr.training.picture_size import seen_size
from star_tvr.training.rows import RowReader
from star_tvr.training.training_rows import training_rows
from star_tvr.training.trl_arguments import trainer_arguments
from tests.generator.command import Running, refused, tvr
from tests.training.conftest import write_document
from tests.training.discs import background

SPLIT = "cross-view/test_ood"
COMPACT = PromptConfig(style="compact", location="cell")
KEY = "sk-test-0123456789"
SILENT = "<think></think><answer></answer>"


@dataclass(frozen=True)
class Request:
    """What a server got.

    Attributes:
        pair: the question, as the pictures tell it; None if they are not those of one.
        before: how often it was asked before.
        time: when it came, in seconds.
    """

    path: str
    headers: dict[str, str]
    body: Any
    pair: Pair | None
    before: int
    time: float


@dataclass(frozen=True)
class Reply:
    """What a server says: a status, a document or text, and headers."""

    status: int
    body: Any
    headers: tuple[tuple[str, str], ...] = ()


def chat(content: str | None = SILENT, finish_reason="stop", **message) -> Reply:
    """A proper reply."""
    choice = {"index": 0, "finish_reason": finish_reason}
    choice["message"] = {"role": "assistant", "content": content, **message}
    return Reply(200, {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]})


def failure(status: int, message="it is so", code=None, **headers: str) -> Reply:
    """An error as OpenAI words it."""
    error = {"message": message, "type": "error", "code": code}
    return Reply(status, {"error": error}, tuple(headers.items()))


DROP, HALF, STALL, TRICKLE, FLOOD = (object() for _ in range(5))
"""Close the connection at once, or in mid-reply; say nothing, a byte now and then, or no end."""


class Server(ThreadingHTTPServer):
    """A server that does what a test tells it to."""

    daemon_threads = True

    def __init__(self, pairs: dict[tuple[Any, ...], Pair]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pairs = pairs
        self.behave: Callable[[Request], Any] = lambda request: chat()
        self.seen: list[Request] = []
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.flooded = 0

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exception(), OSError):  # that the client hung up is fine
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def asked(self) -> Counter[Pair | None]:
        return Counter(request.pair for request in self.seen)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        pair = self.server.pairs.get(tuple(corner(p) for p in pictures(body)))
        with self.server.lock:
            before = sum(r.pair == pair for r in self.server.seen)
            request = Request(
                self.path, dict(self.headers.items()), body, pair, before, time.monotonic()
            )
            self.server.seen.append(request)
        reply = self.server.behave(request)
        if isinstance(reply, Reply):
            body = reply.body if isinstance(reply.body, str | bytes) else json.dumps(reply.body)
            content = body if isinstance(body, bytes) else body.encode()
            self.begin(reply.status, len(content), reply.headers)
            self.wfile.write(content)
            return
        if reply is STALL:
            self.server.released.wait(60)
        elif reply is HALF:
            self.begin(200, 100)
            self.wfile.write(b'{"choices": [')
        elif reply is FLOOD:
            self.begin(200, 10**10)
            self.server.flooded = 0
            try:
                while True:
                    self.server.flooded += self.wfile.write(b" " * 65536)
            except OSError:
                return
        elif reply is TRICKLE:
            self.begin(200, 100_000)
            while not self.server.released.wait(0.02):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    break
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def begin(self, status, length, headers=()):
        self.send_response(status)
        for name, value in (
            ("content-type", "application/json"),
            ("content-length", str(length)),
            *headers,
        ):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


def pictures(body) -> list[Image.Image]:
    """The pictures of a request, in order; they have to be PNG data URLs."""
    found: list[Image.Image] = []
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else []:
            if part["type"] == "image_url":
                head, _, data = part["image_url"]["url"].partition(",")
                assert head == "data:image/png;base64"
                picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
                assert picture.format == "PNG"
                found.append(picture)
    return found


def corner(picture):
    return picture.getpixel((0, 0))


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server(dataset):
    colors = {
        (
            background(p.sample, "initial", p.initial),
            background(p.sample, "final", p.final),
        ): p
        for p in dataset.split(SPLIT)
    }
    server = Server(colors)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def prepare(dataset, server, tmp_path):
    """Open an evaluation of the server that loses no time between tries."""

    def prepare(out="out", decoding=None, **options):
        settings = {"url": server.url, "model": "m", "backoff": 0.001, **options}
        decoding = decoding or Decoding(8)
        return evaluate.prepare(
            dataset.root, SPLIT, Endpoint(**settings), tmp_path / out, decoding, COMPACT
        )

    return prepare


@pytest.fixture
def ask(prepare):
    """Ask everything that is left; what became of each question."""

    def ask(*arguments, **options):
        return list(prepare(*arguments, **options).answers())

    return ask


def lines(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_every_question_is_asked_once(prepare, server, dataset, tmp_path):
    server.behave = lambda request: chat(f"<answer>{request.pair.final}</answer>")
    session = prepare()
    for answer in session.answers():
        assert answer.completion == f"<answer>{answer.question.pair.final}</answer>"
    report = session.score()
    pairs = dataset.split(SPLIT)
    assert server.asked() == dict.fromkeys(pairs, 1)
    assert {(a["sample"], a["final"]) for a in lines(tmp_path / "out")} == {
        (p.sample, p.final) for p in pairs
    }
    assert [r.pair for r in report.results] == pairs and report.missing == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["items"] == len(pairs)
    assert list(prepare().answers()) == []
    assert len(server.seen) == len(pairs)


def test_what_is_sent(ask, server, dataset):
    ask()
    request = server.seen[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    body = request.body
    messages = body.pop("messages")
    neutral = {"top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
    assert body == {"model": "m", "max_completion_tokens": 8, **neutral}
    (message,) = messages
    assert [part["type"] for part in message["content"]] == ["image_url", "image_url", "text"]
    stored = dataset.folder(request.pair.sample) / f"final-{request.pair.final}.png"
    assert pictures({"messages": messages})[1].tobytes() == Image.open(stored).tobytes()


def test_what_is_sent_on_request(ask, server, tmp_path):
    extra = {"top_k": -1, "top_p": None, "max_completion_tokens": None, "max_tokens": 9}
    decoding = Decoding(8, temperature=0.0, seed=1)
    ask(decoding=decoding, extra_body=extra, reasoning_effort="low")
    body = server.seen[0].body
    del body["messages"]
    assert body == {
        **{"model": "m", "temperature": 0, "presence_penalty": 0, "frequency_penalty": 0},
        **{"top_k": -1, "max_tokens": 9, "reasoning_effort": "low"},
    }
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (stored["extra_body"], stored["reasoning_effort"]) == (extra, "low")
    with pytest.raises(ConfigError, match="extra_body: stream is not for you to set"):
        ask("other", extra_body={"stream": True})


def test_a_model_that_refuses_neutral_settings_is_asked_without(ask, server, dataset):
    def picky(request):
        refused = [k for k in ("top_p", "presence_penalty", "user") if k in request.body]
        if not refused:
            return chat()
        reply = failure(400, f"Unsupported parameter: '{refused[0]}'")
        reply.body["error"]["param"] = refused[0]
        return reply

    server.behave = picky
    assert [answer.completion for answer in ask(concurrency=1)] == [SILENT] * 4
    assert len(server.seen) == 4 + 2
    assert "frequency_penalty" in server.seen[-1].body
    # What the user wants is sent, or nothing is.
    answers = ask("other", extra_body={"user": "me"}, concurrency=1)
    assert {answer.problem for answer in answers} == {"400 - Unsupported parameter: 'user'"}


def test_why_answers_ended(prepare, server, dataset, tmp_path):
    first, *_ = dataset.split(SPLIT)

    def cut_all_but_one(request):
        reply = chat(SILENT, "stop" if request.pair == first else "length")
        reply.body["usage"] = {"prompt_tokens": 30, "completion_tokens": 8, "total_tokens": 38}
        return reply

    server.behave = cut_all_but_one
    session = prepare()
    list(session.answers())
    report = session.score()
    told = {a["finish_reason"] for a in lines(tmp_path / "out")}
    assert told == {"stop", "length"}
    assert lines(tmp_path / "out")[0]["usage"] == {"prompt_tokens": 30, "completion_tokens": 8}
    assert report.truncated == 3
    assert "3 of 4 answers were cut off at 8 tokens" in session.remark(report)


@pytest.fixture
def trained(tiny, dataset, tmp_path):
    """A model folder as a training with large pictures leaves it, and how it is asked."""
    folder = shutil.copytree(tiny["tiny"], tmp_path / "trained")
    processor = {"max_pixels": 100352, "min_pixels": 50176}
    document: dict[str, Any] = {"model": str(folder), "dataset": str(dataset.root), "split": SPLIT}
    document |= {"output_dir": str(folder), "prompt": {"coordinates": "model"}}
    document |= {"processor": processor, "use_cpu": True}
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    return folder


def test_pixels_are_those_that_the_model_sees_everywhere(
    trained, server, dataset, tmp_path, monkeypatch, capsys
):
    config = load_train_config("grpo", trained / "config.yaml")
    _, processor = load_initial_model(config, dataset.world, trainer_arguments(config))
    seen = seen_size(processor, dataset)
    rows = training_rows(config, dataset, trainer_arguments(config), seen)[:4]
    assert seen == (280, 196)
    pairs = [Pair(*names) for names in zip(*(rows[k] for k in PAIR_KEYS), strict=True)]
    asked = {pair: texts(prompt) for pair, prompt in zip(pairs, rows["prompt"], strict=True)}
    assert set(asked) == set(dataset.split(SPLIT))
    assert all("from the top left of 280 x 196" in text[-1] for text in asked.values())

    # The tokens that pass through the model are those of pictures of that size.
    encode, local = LoadedModel.encode, []

    def noted(self, conversations):
        inputs = encode(self, conversations)
        assert (inputs["image_grid_thw"] * 14)[:, 1:].unique(dim=0).tolist() == [[196, 280]]
        local.extend(map(texts, conversations))
        return inputs

    monkeypatch.setattr(LoadedModel, "encode", noted)
    evaluate.run(dataset.root, SPLIT, str(trained), tmp_path / "a", max_new_tokens=1, device="cpu")
    assert sorted(local) == sorted(asked.values())

    # An endpoint is asked the same, whatever the model is called there.
    server.behave = lambda request: with_tokens(chat(), 5)
    for name, run in [(str(trained), None), ("alias", str(trained))]:
        server.seen.clear()
        client = Endpoint(server.url, name, run=run)
        out = tmp_path / Path(name).name / "out"
        list(evaluate.prepare(dataset.root, SPLIT, client, out).answers())
        assert {r.pair: texts(r.body["messages"]) for r in server.seen} == asked
        # It does not show the model these pictures: it is said once.
        errors = capsys.readouterr().err.splitlines()
        [line] = [line for line in errors if "counts 5 tokens in a prompt that has" in line]
        assert '{"max_pixels": 100352, "min_pixels": 50176}' in line
    # Without the run nobody knows how it scales.
    list(evaluate.prepare(dataset.root, SPLIT, Endpoint(server.url, "m"), tmp_path / "m").answers())
    assert "from the top left of 64 x 48" in texts(server.seen[-1].body["messages"])[-1]
    # A run from before there was a choice goes on as it was asked.
    document = yaml.safe_load((trained / "config.yaml").read_text())
    (trained / "config.yaml").write_text(yaml.safe_dump(document | {"prompt": {"cells": 8}}))
    client = Endpoint(server.url, str(trained))
    list(evaluate.prepare(dataset.root, SPLIT, client, tmp_path / "old").answers())
    assert "from the top left of 64 x 48" in texts(server.seen[-1].body["messages"])[-1]


def texts(messages) -> list[str]:
    """The texts of messages, as they are sent or as a processor gets them."""
    contents = [m["content"] for m in messages]
    parts = [
        p for c in contents for p in ([{"type": "text", "text": c}] if isinstance(c, str) else c)
    ]
    return [part["text"] for part in parts if part["type"] == "text"]


def with_tokens(reply: Reply, count: int) -> Reply:
    reply.body["usage"] = {"prompt_tokens": count, "completion_tokens": 1}
    return reply


def test_the_system_message_is_plain_text(server, dataset, tmp_path):
    client = Endpoint(server.url, "m")
    for _ in evaluate.prepare(dataset.root, SPLIT, client, tmp_path / "out").answers():
        pass
    system, user = server.seen[0].body["messages"]
    assert isinstance(system["content"], str) and system["role"] == "system"
    kinds = [part["type"] for part in user["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "text"]


ONCE = {
    "server error": failure(500),
    "bad gateway": Reply(502, "<html>bad gateway</html>"),
    "too many": failure(429),
    "busy": failure(503, **{"retry-after": "0"}),
    "no JSON": Reply(200, "{oops"),
    "other JSON": Reply(200, [1]),
    "an error in disguise": Reply(200, {"error": {"message": "no"}}),
    "no choices": Reply(200, {"choices": []}),
    "no text": chat(None),
    "wrong type": Reply(200, {"choices": [{"message": {"content": 3}}]}),
    "dropped": DROP,
    "half a reply": HALF,
}


@pytest.mark.parametrize("trouble", ONCE.values(), ids=ONCE.keys())
def test_what_passes_is_tried_again(ask, server, dataset, trouble):
    server.behave = lambda request: trouble if request.before < 2 else chat()
    assert all(answer.completion == SILENT for answer in ask(retries=2))
    assert server.asked() == dict.fromkeys(dataset.split(SPLIT), 3)


@pytest.mark.parametrize("trouble", [STALL, TRICKLE], ids=["silence", "a byte now and then"])
def test_a_stalling_server_is_asked_again(ask, server, dataset, trouble):
    server.behave = lambda request: chat() if request.before else trouble
    assert all(answer.completion == SILENT for answer in ask(timeout=0.5))
    assert all(count > 1 for count in server.asked().values())


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_holds_for_all(ask, server, as_date):
    wait = 0.3
    until = []

    def busy_at_first(request):
        if until:
            return chat()
        # A date has whole seconds.
        until.append(float(int(time.time()) + 2) if as_date else time.time() + wait)
        header = formatdate(until[0], usegmt=True) if as_date else str(wait)
        return failure(429, **{"retry-after": header})

    server.behave = busy_at_first
    begun = time.time() - time.monotonic()
    assert all(answer.completion for answer in ask(concurrency=1))
    assert min(r.time for r in server.seen[1:]) + begun >= until[0] - 0.01


def test_an_item_may_stay_without_an_answer(prepare, server, dataset, tmp_path):
    pairs = dataset.split(SPLIT)
    server.behave = lambda request: failure(500) if request.pair == pairs[1] else chat()
    session = prepare(retries=1)
    problems = {a.question.pair: a.problem for a in session.answers() if a.completion is None}
    assert problems == {pairs[1]: "500 - it is so"}
    with pytest.raises(EndpointError, match="1 of 4 items not answered; run again"):
        session.score()
    assert not (tmp_path / "out" / "metrics.json").exists()
    assert server.asked() == {**dict.fromkeys(pairs, 1), pairs[1]: 2}
    server.behave = lambda request: chat()
    session = prepare()
    assert [a.question.pair for a in session.answers()] == [pairs[1]]
    assert session.score().missing == 0


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_item_is_not_tried_again(ask, server, dataset, status):
    pairs = dataset.split(SPLIT)
    server.behave = lambda request: (
        failure(status, "too long") if request.pair == pairs[0] else chat()
    )
    problems = {a.question.pair: a.problem for a in ask() if a.completion is None}
    assert problems == {pairs[0]: f"{status} - too long"}
    assert server.asked() == dict.fromkeys(pairs, 1)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (failure(401, f"Incorrect API key: {KEY}"), r"401 - .*\*\*\*; it does not accept OPENAI"),
        (failure(403), "403 - it is so; it does not accept OPENAI_API_KEY"),
        (failure(404), "404 - it is so; is m served there, and does the address end in /v1"),
        (failure(402), "402 - it is so$"),
        (failure(429, code="insufficient_quota"), "429 - it is so$"),
        (failure(429, **{"retry-after": "86400"}), "it wants to be asked again in 86400 s$"),
        (Reply(405, '{"detail":"Method\nNot Allowed"}'), r'405 {"detail":"Method Not Allowed"}$'),
    ],
)
def test_what_does_not_pass_stops_at_once(prepare, server, tmp_path, reply, message):
    server.behave = lambda request: reply
    with pytest.raises(EndpointError, match=message) as raised:
        list(prepare(concurrency=1).answers())
    assert str(raised.value).startswith(f"{server.url}: ")
    assert KEY not in str(raised.value)
    assert len(server.seen) == 1
    assert lines(tmp_path / "out") == []


def test_answers_before_the_stop_are_kept(ask, server, dataset, tmp_path):
    server.behave = lambda request: failure(401) if len(server.seen) > 2 else chat()
    with pytest.raises(EndpointError, match="401"):
        ask(concurrency=1)
    assert len(lines(tmp_path / "out")) == 2


def test_no_server(ask, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(EndpointError, match="no connection .*; start the server or mend") as e:
            ask(url=f"http://127.0.0.1:{port}/v1")
    assert "\n" not in str(e.value)


def test_a_server_that_goes_away(prepare, server):
    answers = prepare(concurrency=1, retries=2).answers()
    assert next(answers).completion == SILENT
    server.behave = lambda request: DROP  # the connection that is still open
    server.shutdown()
    server.server_close()
    with pytest.raises(EndpointError, match="no connection .*; run again when it is back"):
        next(answers)


def test_a_server_that_answers_nothing_is_given_up(ask, server, monkeypatch):
    monkeypatch.setattr(endpoint_backend, "GIVE_UP", 3)
    server.behave = lambda request: failure(500, "model not loaded")
    with pytest.raises(EndpointError, match="3 items in a row .*: 500 - model not loaded; mend"):
        ask(retries=1, concurrency=1)
    assert len(server.seen) == 6
    # An answer in between, and it goes on.
    server.seen.clear()
    server.behave = lambda request: chat() if len(server.seen) == 3 else failure(500)
    assert [a.completion for a in ask(retries=0, concurrency=1)] == [None, None, SILENT, None]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_requests_are_capped(prepare, ask, server, tmp_path, concurrency):
    options = {"max_requests": 3, "concurrency": concurrency}
    with pytest.raises(
        EndpointError, match="3 requests were sent .max_requests.; .*: 1 of 4 items not answered"
    ):
        ask(**options)
    assert len(server.seen) == len(lines(tmp_path / "out")) == 3
    session = prepare(**options)
    assert len(list(session.answers())) == 1
    assert session.score().missing == 0
    assert len(server.seen) == 4


def test_retries_count_as_requests(ask, server, tmp_path):
    server.behave = lambda request: failure(500) if request.before < 2 else chat()
    with pytest.raises(EndpointError, match="5 requests were sent .*: 3 of 4 items not answered"):
        ask(max_requests=5, concurrency=1)
    assert len(server.seen) == 5


def test_a_cap_that_suffices(ask, server):
    assert all(a.completion for a in ask(max_requests=4))
    assert len(server.seen) == 4


def test_requests_are_sent_at_once(ask, server):
    together = threading.Barrier(2, timeout=30)
    under_way: list[int] = []
    most = []

    def meet(request):
        with server.lock:
            under_way.append(1)
            most.append(len(under_way))
        together.wait()
        with server.lock:
            under_way.pop()
        return chat()

    server.behave = meet
    assert all(a.completion for a in ask(concurrency=2, retries=0))
    assert max(most) == 2


def test_the_key_is_nowhere(prepare, server, tmp_path, capfd):
    server.behave = lambda request: chat(f"I was told {KEY}")
    session = prepare()
    list(session.answers())
    session.score()
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) == 3
    assert not any(KEY in path.read_text() for path in files)
    assert "I was told ***" in (tmp_path / "out" / "predictions.jsonl").read_text()
    server.behave = lambda request: Reply(200, f"{'x' * 70}{KEY}")
    (problem, *_) = {a.problem for a in prepare("other", retries=0).answers()}
    assert "***" in problem and KEY[:5] not in problem
    assert KEY not in "".join(capfd.readouterr())


def test_a_server_without_a_key(ask, server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    server.behave = lambda request: chat("none of them")
    assert {a.completion for a in ask()} == {"none of them"}
    assert {r.headers["authorization"] for r in server.seen} == {"Bearer none"}
    server.behave = lambda request: failure(401)
    with pytest.raises(EndpointError, match="401 - it is so; set OPENAI_API_KEY"):
        ask("other")


def test_several_draws(prepare, server, dataset, tmp_path):
    pairs = dataset.split(SPLIT)
    server.behave = lambda request: chat(f"{SILENT}{request.body['seed']}")
    decoding = Decoding(8, temperature=0.7, num_samples=3, seed=5)
    session = prepare(decoding=decoding, max_requests=7)
    with pytest.raises(EndpointError, match="5 of 12 draws not answered"):
        list(session.answers())
    session = prepare(decoding=decoding)
    assert len(list(session.answers())) == 5
    assert server.asked() == dict.fromkeys(pairs, 3)
    answers = lines(tmp_path / "out")
    keys = [(a["sample"], a["final"], a["draw"]) for a in answers]
    assert sorted(keys) == sorted((p.sample, p.final, draw) for p in pairs for draw in range(3))
    assert len({a["completion"] for a in answers}) == 12
    assert {r.body["temperature"] for r in server.seen} == {0.7}
    report = session.score()
    assert (report.items, len(report.results), list(report.pass_at)) == (4, 12, [1, 2, 3])
    # The same seeds, whatever the order.
    again = prepare("again", decoding=decoding, concurrency=1)
    list(again.answers())
    assert sorted(a["completion"] for a in lines(tmp_path / "again")) == sorted(
        a["completion"] for a in answers
    )


def test_a_seed_is_sent_only_if_set(ask, server):
    ask(decoding=Decoding(8, temperature=1.0))
    assert not any("seed" in r.body for r in server.seen)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_evaluation_goes_on(server, dataset, tmp_path, number):
    server.behave = lambda request: chat() if len(server.seen) < 3 else STALL
    out = tmp_path / "out"
    command = ["evaluate", dataset.root, "--split", SPLIT, "--model", "m", "--out", out]
    running = Running(*command, "--endpoint", server.url, "--concurrency", "1")
    running.until(lambda: len(server.seen) == 3)
    running.signal(number)
    status, _, stderr = running.end()
    assert status == (130 if number == signal.SIGINT else -number)
    stopped = "stopped; the same command goes on from here\n"
    assert stderr == (stopped if number == signal.SIGINT else "")
    answered = [r.pair for r in server.seen[:2]]
    assert [Pair(a["sample"], a["initial"], a["final"]) for a in lines(out)] == answered
    with open(out / "predictions.jsonl", "a") as file:
        file.write('{"sample": "00000')
    server.behave = lambda request: chat()
    client = Endpoint(server.url, "m")
    session = evaluate.prepare(dataset.root, SPLIT, client, out)
    asked = [a.question.pair for a in session.answers()]
    assert session.score().missing == 0
    assert Counter(answered + asked) == dict.fromkeys(dataset.split(SPLIT), 1)


def test_the_command(server, dataset, tmp_path):
    pairs = dataset.split(SPLIT)
    server.behave = lambda request: failure(400) if request.pair == pairs[0] else chat()
    out = tmp_path / "out"
    command = ["evaluate", dataset.root, "--split", SPLIT, "--model", "m", "--out", out]
    command += ["--endpoint", server.url]
    done = tvr(*command)
    assert done.returncode == 1
    assert sorted(without_progress(done.stderr)) == [
        f"error: {out}: 1 of 4 items not answered; run again",
        f"sample {pairs[0].sample}, center to left: not answered: 400 - it is so",
    ]
    assert "evaluating: 4 of 4, 0 s left" in done.stderr
    server.behave = lambda request: failure(401, f"no {KEY}")
    assert refused(*command, status=1) == (
        f"error: {server.url}: 401 - no ***; it does not accept OPENAI_API_KEY"
    )
    server.behave = lambda request: chat(None, "length")
    done = tvr(*command)
    assert done.returncode == 0
    assert without_progress(done.stderr) == [
        f"{out}: 1 of 4 answers were cut off at 512 tokens, and count as they are; a higher "
        "max_new_tokens, in another folder, lets them end"
    ]
    assert "TAcc" in done.stdout and f"{out}: predictions.jsonl, metrics.json" in done.stdout


def without_progress(text: str) -> list[str]:
    """Lines on stderr, but for those of progress, of which a slow machine shows more."""
    return [line for line in text.splitlines() if not line.startswith("evaluating: ")]


def test_answers_that_are_all_cut_off(server, dataset, tmp_path):
    server.behave = lambda request: chat(None, "length")
    splits = ["--split", SPLIT, "--split", "cross-view/test_id", "--limit", "5"]
    command = ["evaluate", dataset.root, *splits, "--model", "m", "--out", tmp_path / "out"]
    done = tvr(*command, "--endpoint", server.url, "--prompt", "style=compact")
    assert done.returncode == 0
    assert "5 of 5 answers were cut off at 512 tokens, so nothing was measured" in done.stderr
    assert "5 items, 5 cut off" in done.stdout and "split cross-view/test_id" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--endpoint", "localhost:8000"], "error: --endpoint: is no address such as http://"),
        (["--max-requests", "3"], "error: --max-requests 3: goes with an endpoint only"),
        (["--reasoning-effort", "low"], "error: --reasoning-effort low: goes with an endpoint"),
        (
            ["--endpoint", "http://localhost/v1", "--extra-body", "[1]"],
            "error: --extra-body [1]: is no JSON object, such as",
        ),
        (["--prompt", "stile=full"], "error: --prompt stile=full: stile: unknown key; did you"),
        (
            ["--endpoint", "http://localhost/v1", "--adapter", "a"],
            "error: --adapter a: does not go with an endpoint",
        ),
        (["--num-samples", "4"], "error: --num-samples 4: with temperature 0 they would all"),
    ],
)
def test_wrong_usage(dataset, tmp_path, arguments, message):
    command = ["evaluate", dataset.root, "--split", SPLIT, "--model", "m", "--out", tmp_path / "o"]
    assert refused(*command, *arguments).startswith(message)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "url", ["", "ftp://host/v1", "http://", "http://host:99999/v1", "http://host:x/v1"]
)
def test_no_addresses(url):
    with pytest.raises(ConfigError, match="url: is no address"):
        Endpoint(url, "m").check()


@pytest.mark.parametrize("url", [f"http://u:{KEY}@host/v1", f"http://host/v1?key={KEY}"])
def test_no_keys_in_addresses(url):
    with pytest.raises(ConfigError, match="put the key into OPENAI_API_KEY") as raised:
        Endpoint(url, "m").check()
    assert KEY not in str(raised.value)


def test_a_key_that_cannot_be_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nä")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY: holds characters") as raised:
        Endpoint("http://host/v1", "m").check()
    assert KEY not in str(raised.value)


def test_a_folder_belongs_to_one_endpoint(prepare, server):
    prepare()
    with pytest.raises(
        ConfigError, match='with endpoint = "http://127.0.0.1:.*", now it is "http://oth'
    ):
        prepare(url="http://other/v1")
    with pytest.raises(ConfigError, match='with model = "m", now it is "n"'):
        prepare(model="n")
    with pytest.raises(ConfigError, match="with temperature = null, now it is 1.0"):
        prepare(decoding=Decoding(8, temperature=1.0))
    with pytest.raises(ConfigError, match="with reasoning_effort = null, now it is"):
        prepare(reasoning_effort="low")
    prepare(concurrency=1, timeout=3, retries=1, max_requests=9)


def test_a_split_that_has_changed(ask, prepare, dataset, tmp_path):
    ask()
    path = tmp_path / "out" / "predictions.jsonl"
    first = lines(tmp_path / "out")[0]
    path.write_text(json.dumps({**first, "final": "center"}) + "\n")
    with pytest.raises(DataError, match=r"predictions.jsonl, line 1: answers what is not in"):
        prepare()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (chat("a"), "a"),
        (chat(""), ""),
        (chat(None, "length"), ""),
        (chat(None, "content_filter"), ""),
        (chat(None, refusal="I cannot"), "I cannot"),
        (chat("<answer></answer>", reasoning_content="so"), "<think>so</think><answer></answer>"),
        (chat("b", reasoning="so"), "<think>so</think>b"),
        (chat(None, "length", reasoning="so"), "<think>so</think>"),
        (chat("<think>c</think>d", reasoning_content="c"), "<think>c</think>d"),
        (chat("\ud800"), "?"),
    ],
)
def test_completions(reply, expected):
    assert read_completion(json.dumps(reply.body)).text == expected


def test_strange_reasons_and_counts_are_none():
    body = chat(SILENT, ["stop"]).body | {"usage": {"prompt_tokens": True, "completion_tokens": -1}}
    assert read_completion(json.dumps(body)) == (SILENT, None, None, None)
    body = chat(SILENT, "x" * 99).body | {"usage": [1]}
    assert read_completion(json.dumps(body)) == (SILENT, None, None, None)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", "[" * 100_000, '{"choices": [{"message": null}]}']
)
def test_replies_without_a_completion(text):
    with pytest.raises(ValueError, match="^(is no JSON|holds no completion): "):
        read_completion(text)


def test_times_to_wait(dataset):
    reader = RowReader(dataset, COMPACT)
    client = endpoint_backend.Client(
        Endpoint("http://host/v1", "m", backoff=1.0), reader, Decoding()
    )
    for attempt, longest in ((1, 1), (2, 2), (4, 8), (7, 60), (2000, 60)):
        pauses = [client.pause(attempt) for _ in range(50)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
    assert retry_after("nan") == retry_after("-3") == retry_after("x, 1 y") == 0
    assert retry_after("inf") > endpoint_backend.LONGEST_WAIT
    assert 3590 < retry_after(formatdate(time.time() + 3600, usegmt=True)) <= 3600


# --- A real server -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def merged(tiny, dataset, tmp_path_factory):
    """The folder of a tiny model that an adapter was merged into."""
    root = tmp_path_factory.mktemp("merged")
    values = {"model": str(tiny["tiny-idefics3"]), "lora": {"r": 4}, "max_steps": 1}
    values |= {"output_dir": str(root / "run"), "per_device_train_batch_size": 1}
    return merge(sft.run(write_document(root / "run.yaml", dataset, values)), root / "out")


@pytest.fixture(scope="module")
def served(merged, tmp_path_factory):
    """The address of `transformers serve` with that model."""
    model = merged
    log = tmp_path_factory.mktemp("serve") / "log"
    for _ in range(3):  # somebody else may take the port before the server does
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model)]
        command += ["--device", "cpu", "--dtype", "float32"]
        with open(log, "w") as file:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=file, stderr=file
            )
        if healthy(process, port):
            break
    else:
        raise AssertionError(log.read_text()[-3000:])
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.wait(30)


def healthy(process, port) -> bool:
    """Wait, at most two minutes, until a server says that it is well; whether it does."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with opener.open(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
                return reply.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        return False
    process.kill()
    process.wait()
    return False


def test_a_real_server_answers_as_the_model_does(served, dataset, merged, tmp_path, capsys):
    model = str(merged)
    local = evaluate.run(
        dataset.root, SPLIT, model, tmp_path / "local", max_new_tokens=16, device="cpu"
    )
    client = Endpoint(served, model, concurrency=2)
    decoding = Decoding(16, temperature=0.0)
    session = evaluate.prepare(dataset.root, SPLIT, client, tmp_path / "served", decoding)
    assert all(answer.completion for answer in session.answers())
    assert session.score().to_json() == local.to_json()
    assert "counts" not in capsys.readouterr().err  # its prompts have the same tokens
    assert len({result.completion for result in local.results}) > 1


def test_a_real_server_without_that_model(served, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint_backend, "GIVE_UP", 2)
    client = Endpoint(served, "another")
    session = evaluate.prepare(dataset.root, SPLIT, client, tmp_path / "out")
    with pytest.raises(EndpointError) as raised:
        list(session.answers())
    assert re.search("Server is pinned to .*; requested 'another'", str(raised.value))


# --- Servers that mean harm ----------------------------------------------------------------------


def packed(megabytes: int, layers: int = 1) -> bytes:
    """So many bytes of blanks as a gzip file, packed again and again."""
    content = gzip.compress(b" " * (megabytes * 1_000_000))
    return content if layers == 1 else gzip.compress(content)


def test_packed_replies_are_read(ask, server):
    body = gzip.compress(json.dumps(chat("<answer></answer>").body).encode())
    server.behave = lambda request: Reply(200, body, (("Content-Encoding", "gzip"),))
    assert [answer.completion for answer in ask()] == ["<answer></answer>"] * 4
    assert {r.headers["Accept-Encoding"] for r in server.seen} == {"gzip"}


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply(200, packed(64), (("Content-Encoding", "gzip"),)), "is longer than 4 MB"),
        (Reply(500, packed(64), (("Content-Encoding", "gzip"),)), "is longer than 4 MB"),
        (
            Reply(200, packed(9, 2), (("Content-Encoding", "gzip, gzip"),)),
            "is packed as gzip, gzip",
        ),
        (Reply(200, b"x" * 99, (("Content-Encoding", "zstd"),)), "is packed as zstd"),
        (Reply(400, b"x" * 99, (("Content-Encoding", "gzip"),)), "cannot be unpacked"),
        (FLOOD, "is longer than 4 MB"),
    ],
    ids=["gzip", "error", "gzip in gzip", "zstd", "no gzip", "no end"],
)
def test_a_reply_that_would_fill_memory_costs_one_item(prepare, server, dataset, reply, problem):
    first = dataset.split(SPLIT)[0]
    server.behave = lambda request: reply if request.pair == first else chat()
    answers = {a.question.pair: a for a in prepare().answers()}
    assert f"the reply {problem}" in answers[first].problem
    assert sum(a.completion is not None for a in answers.values()) == len(answers) - 1
    assert server.asked()[first] == 1
    assert server.flooded < 60e6


def test_pictures_go_to_nobody_else(ask, server, dataset):
    other = Server(server.pairs)
    thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.behave = lambda request: Reply(307, {}, (("Location", f"{other.url}/chat/completions"),))
    with pytest.raises(EndpointError, match=f"it sends to {other.url}.*if you trust it"):
        ask()
    assert other.seen == []
    other.shutdown()
    thread.join()
    other.server_close()


def test_a_redirect_within_the_server_is_followed(ask, server):
    server.behave = lambda request: (
        chat()
        if request.path.endswith("/")
        else Reply(308, {}, (("Location", request.path + "/"),))
    )
    assert all(answer.completion == SILENT for answer in ask())
    server.behave = lambda request: Reply(307, {}, (("Location", request.path),))
    with pytest.raises(EndpointError, match="it sends on and on"):
        ask("other")


@pytest.mark.parametrize("charset", ["utf-7", "base64", "punycode", "idna", "no-such"])
@pytest.mark.parametrize("status", [200, 400])
def test_a_strange_charset_is_none(ask, server, charset, status):
    reply = chat("größer")
    header = (("Content-Type", f"application/json; charset={charset}"),)
    server.behave = lambda request: Reply(status, reply.body, header)
    answers = ask()
    assert all((a.completion == "größer") == (status == 200) for a in answers) and len(answers) == 4


def test_no_control_character_reaches_the_terminal(server, dataset, tiny, tmp_path):
    words = "\x1b]0;owned\x07 \x9b31m \u202egnp"
    command = ["evaluate", dataset.root, "--split", SPLIT, "--model", "m"]
    command += ["--endpoint", server.url, "--retries", "0"]
    for status in (400, 403):
        server.behave = lambda request, status=status: failure(status, words)
        done = tvr(*command, "--out", tmp_path / str(status))
        assert done.returncode == 1
        assert "owned" in done.stderr
        assert all(c.isprintable() or c == "\n" for c in done.stderr + done.stdout), done.stderr

"""A model behind an OpenAI-compatible server (vLLM, SGLang, `transformers serve`, a hosted one).

The key comes from the environment, goes into the requests, and is kept out of everything else.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from star_tvr.extras import require
from star_tvr.scenes.errors import ConfigError, ParameterError, TvrError, printable
from star_tvr.training.backends import Decoding, Question, Response
from star_tvr.training.config import ModelInput, PromptConfig
from star_tvr.training.prompts import wire_messages, with_images
from star_tvr.training.rows import RowReader
from star_tvr.training.run_folder import stored_input

if TYPE_CHECKING:
    from openai import APIStatusError
    from transformers import ProcessorMixin

KEY = "OPENAI_API_KEY"
NO_KEY = "none"
"""Sent where there is no key: the client wants one, a server of one's own mostly does not."""

LONGEST_BACKOFF = 60.0
LONGEST_WAIT = 600.0
"""Seconds to wait between two tries, and at most if the server asks for more."""

GIVE_UP = 10
"""So many items in a row without an answer mean that the server, not the items, is at fault."""

NEUTRAL = {"top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
"""Sampling settings that change nothing, sent so that no others of the server do."""

OWN_KEYS = ("messages", "model", "n", "stream")
"""What a request is made of, whatever `extra_body` says."""

RETRIED = {408, 409, 425, 429}
REFUSED = {400, 413, 422}


class EndpointError(TvrError):
    """A server cannot be used, or has not answered everything."""


class CapReached(EndpointError):
    """As many requests as allowed were sent."""


class Failed(Exception):
    """One try at one item gave no answer.

    Attributes:
        retry: whether another try may help.
        wait: seconds the server wants to be left alone.
        unreachable: no connection could be made.
    """

    def __init__(
        self, message: str, retry: bool = True, wait: float = 0.0, unreachable: bool = False
    ) -> None:
        super().__init__(message)
        self.retry = retry
        self.wait = wait
        self.unreachable = unreachable


@dataclass(frozen=True)
class Endpoint:
    """A model behind a server.

    Attributes:
        url: the server's address; mostly ends in `/v1`.
        model: its name there.
        concurrency: requests under way at once.
        timeout: seconds for one request, from its sending to the whole reply.
        retries: further tries at an item after the first.
        backoff: seconds to wait before the second try; doubled for each further one, up to
            LONGEST_BACKOFF, and shortened by up to a half at random.
        max_requests: requests that may be sent, retries included; None is any number.
        extra_body: further keys of every request; one with the value None is left out.
        reasoning_effort: how long the model is to reason, in the words of its server.
        run: folder of the training run that the model comes from; by default its name, if that is
            one. Questions are then asked as in that training.
    """

    url: str
    model: str
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 5
    backoff: float = 1.0
    max_requests: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    reasoning_effort: str | None = None
    run: str | None = None

    @property
    def temperature(self) -> None:
        """The server's own, unless a temperature is given: some models refuse any."""
        return None

    def check(self) -> None:
        """Make sure that address, key and settings can be used at all. Raises ConfigError."""
        taken = [key for key in OWN_KEYS if key in self.extra_body]
        if taken:
            raise ParameterError("extra_body", f"{taken[0]} is not for you to set; leave it out")
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise ParameterError("url", "is no address such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ParameterError(
                "url",
                "the address is written into files, so it may have no name, password or query; put "
                f"the key into {KEY}",
            )
        key = api_key()
        if not key.isascii() or not key.isprintable():
            raise ConfigError(f"{KEY}: holds characters that cannot be sent; set it again")

    def identity(self) -> dict[str, Any]:
        """Address, name and further settings."""
        return {
            "model": self.model,
            "endpoint": self.url.rstrip("/"),
            **({"extra_body": dict(self.extra_body)} if self.extra_body else {}),
            **({"reasoning_effort": self.reasoning_effort} if self.reasoning_effort else {}),
        }

    def trained(self) -> ModelInput:
        """How the model was asked in its training, if that was here.

        Raises:
            ConfigError: the configuration of the run cannot be read.
        """
        return stored_input(self.run or self.model) or ModelInput()

    def processor(self, prompt: PromptConfig) -> "ProcessorMixin | None":
        """What made pictures and text into tokens in the model's training, if that was here.

        Raises:
            ConfigError: it is needed, and the packages that it needs are not installed.
            ModelError: its files are missing or damaged.
        """
        folder = self.run or self.model
        asked = stored_input(folder)
        if asked is None:
            return None
        if prompt.names_pixels and prompt.coordinates == "model":
            what = "tvr evaluate --endpoint, for pixels as the run's processor scales them,"
            require(what, "torch", "transformers")
        elif not all(map(find_spec, ("torch", "transformers"))):
            return None
        elif not any(Path(folder).glob("*processor_config.json")):
            return None
        from star_tvr.training.models import load_processor, quiet_libraries

        quiet_libraries()
        return load_processor(folder, asked.processor)

    def answers(
        self, reader: RowReader, questions: Sequence[Question], decoding: Decoding
    ) -> Iterator[Response]:
        """Ask, several at once, and yield what comes as it comes.

        An item that stays without an answer is yielded without one. It runs an event loop of its
        own, so it cannot be used within another one.

        Raises:
            DataError: an image is missing or damaged.
            EndpointError: the server cannot be reached, does not know the model, does not accept
                the key, or no longer answers anything.
            CapReached: `max_requests` were sent and there is more to ask.
        """
        processor = self.processor(reader.prompt)
        if processor is not None:
            from star_tvr.training.picture_size import seen_size

            reader = replace(reader, seen=seen_size(processor, reader.dataset))
        waiting = iter(questions)
        capped: CapReached | None = None
        tasks: set[asyncio.Task[Response]] = set()
        with asyncio.Runner() as runner:
            client = Client(self, reader, decoding, processor)
            try:
                while True:
                    room = 0 if capped else self.concurrency - len(tasks)
                    for question in islice(waiting, room):
                        tasks.add(runner.get_loop().create_task(client.answer(question)))
                    if not tasks:
                        break
                    done, tasks = runner.run(_some(tasks))
                    yield from (t.result() for t in done if not t.exception())
                    for problem in filter(None, (t.exception() for t in done)):
                        if not isinstance(problem, CapReached):
                            raise problem
                        capped = problem
            finally:
                runner.run(client.close(tasks))
        if capped:
            raise capped


async def _some(tasks: set[asyncio.Task[Response]]) -> Any:
    """The tasks that are done, at least one, and those that are not."""
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


class Client:
    """The conversation with a server: what was sent so far, and what it is worth to send more."""

    def __init__(
        self,
        endpoint: Endpoint,
        reader: RowReader,
        decoding: Decoding,
        processor: "ProcessorMixin | None" = None,
    ) -> None:
        from openai import AsyncOpenAI

        from star_tvr.training.bounded_http import BoundedClient

        self.endpoint = endpoint
        self.reader = reader
        self.decoding = decoding
        self.processor = processor
        self.key = api_key()
        # The client's own retries know neither a limit of requests, nor a server that wants to be
        # left alone by all of them, nor replies that hold no completion.
        self.client = AsyncOpenAI(
            base_url=endpoint.url,
            api_key=self.key,
            timeout=endpoint.timeout,
            max_retries=0,
            http_client=BoundedClient(timeout=endpoint.timeout),
        )
        self.neutral: dict[str, Any] = dict(NEUTRAL)
        self.sent = 0
        self.reached = False
        self.unanswered = 0
        self.resume = 0.0

    async def close(self, tasks: Iterable[asyncio.Task[Response]]) -> None:
        """Drop what is under way."""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.close()

    async def answer(self, question: Question) -> Response:
        """Ask one question until there is an answer or no hope for one.

        Raises:
            DataError, EndpointError, CapReached: as `Endpoint.answers`.
        """
        request = await asyncio.to_thread(self.request, question)
        problem = Failed("")
        for attempt in range(self.endpoint.retries + 1):
            self.check_cap()
            if attempt:
                await asyncio.sleep(self.pause(attempt))
            # Another item's reply may have been a request to wait.
            while (early := self.resume - time.monotonic()) > 0:
                await asyncio.sleep(early)
            try:
                completion = await self.send(request)
            except Failed as failure:
                problem = failure
                if not problem.retry:
                    break
                self.resume = max(self.resume, time.monotonic() + problem.wait)
            else:
                self.unanswered = 0
                await asyncio.to_thread(self.compare, question, completion)
                return Response(
                    question,
                    completion.text,
                    finish_reason=completion.finish_reason,
                    prompt_tokens=completion.prompt_tokens,
                    completion_tokens=completion.completion_tokens,
                )
        if problem.unreachable:
            raise EndpointError(f"{self.endpoint.url}: {problem}; run again when it is back")
        self.unanswered += 1
        if self.unanswered >= GIVE_UP:
            raise EndpointError(
                f"{self.endpoint.url}: {GIVE_UP} items in a row got no answer, the last one "
                f"because: {problem}; mend that and run again"
            )
        return Response(question, None, str(problem))

    def compare(self, question: Question, completion: "Completion") -> None:
        """Say so, once, if a prompt has other tokens at the server than it has in training.

        Mostly pictures are then scaled to another size: the server has other settings of the
        processor.
        """
        processor, counted = self.processor, completion.prompt_tokens
        if processor is None or counted is None:
            return
        self.processor = None
        row = self.reader.row(question.pair)
        from star_tvr.training.models import reading

        with reading("model: its processor"):
            encoded = processor.apply_chat_template(
                [with_images(row["prompt"], row["images"])],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
            )
        expected = len(encoded["input_ids"][0])
        if counted != expected:
            settings = self.endpoint.trained().processor
            cure = f", here {json.dumps(settings)}" if settings else ""
            words = (
                f"{self.endpoint.url}: counts {counted} tokens in a prompt that has {expected} in "
                "the model's training, so it shows the model something else; start it with the "
                f"run's template and settings of the processor{cure}"
            )
            print(printable(words), file=sys.stderr)

    def check_cap(self) -> None:
        """Raise CapReached if no more requests may be sent."""
        if self.endpoint.max_requests is not None and self.sent >= self.endpoint.max_requests:
            raise CapReached(f"{self.sent} requests were sent (max_requests)")

    def pause(self, attempt: int) -> float:
        """Seconds to wait before a try: exponential, with jitter."""
        longest = min(self.endpoint.backoff * 2 ** min(attempt - 1, 30), LONGEST_BACKOFF)
        return longest * random.uniform(0.5, 1)

    def request(self, question: Question) -> dict[str, Any]:
        """What is sent for a question.

        Raises:
            DataError: an image is missing or damaged.
        """
        row = self.reader.row(question.pair)
        request: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": wire_messages(with_images(row["prompt"], row["images"])),
            "max_completion_tokens": self.decoding.max_new_tokens,
        }
        if self.decoding.temperature is not None:
            request["temperature"] = self.decoding.temperature
        if self.decoding.temperature != 0 and self.decoding.seed is not None:
            request["seed"] = self.decoding.seed_of(question)
        if self.endpoint.reasoning_effort is not None:
            request["reasoning_effort"] = self.endpoint.reasoning_effort
        return request

    def complete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A request with neutral sampling settings and what the user adds or leaves out."""
        extra = self.endpoint.extra_body
        kept = {k: v for k, v in {**self.neutral, **request}.items() if k not in extra}
        return {**kept, "extra_body": {k: v for k, v in extra.items() if v is not None}}

    async def send(self, request: Mapping[str, Any]) -> "Completion":
        """Send one request and return the completion.

        Raises:
            Failed: there is none this time.
            EndpointError: there will be none.
            CapReached: no more requests may be sent.
        """
        import httpx2
        import openai

        from star_tvr.training.bounded_http import RefusedRedirectError, RefusedReplyError

        endpoint = self.endpoint
        self.check_cap()
        self.sent += 1
        try:
            async with asyncio.timeout(endpoint.timeout):
                reply = await self.client.chat.completions.with_raw_response.create(
                    **self.complete(request)
                )
        except RefusedRedirectError as problem:
            raise EndpointError(
                f"{endpoint.url}: {self.clean(str(problem))}; name that address if you trust it"
            ) from None
        except RefusedReplyError as problem:
            raise Failed(self.clean(f"the reply {problem}"), retry=False) from None
        except (TimeoutError, openai.APIConnectionError) as problem:
            cause = problem.__cause__
            lost = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)
            if isinstance(problem, TimeoutError | openai.APITimeoutError):
                words = f"no reply within {endpoint.timeout:g} s"
            else:
                words = f"{'no connection' if lost else 'the connection broke'} ({cause})"
            if lost and not self.reached:
                raise EndpointError(
                    f"{endpoint.url}: {self.clean(words)}; start the server or mend the address"
                ) from None
            raise Failed(self.clean(words), unreachable=lost) from None
        except openai.APIStatusError as problem:
            self.reached = True
            raise self.judge(problem) from None
        self.reached = True
        try:
            found = read_completion(self.hide(reply.http_response.text))
            return found._replace(text=self.hide(found.text))
        except ValueError as problem:
            raise Failed(self.clean(f"the reply {problem}")) from None

    def judge(self, problem: "APIStatusError") -> Failed | EndpointError:
        """What an HTTP error means for the item, or for the whole evaluation."""
        status = problem.status_code
        words = str(problem).removeprefix("Error code: ")
        if words == str(status):
            words = f"{words} {problem.response.text}"
        words = self.clean(words)
        hint = ""
        if status in RETRIED and problem.code != "insufficient_quota" or status >= 500:
            wait = retry_after(problem.response.headers.get("retry-after"))
            if wait <= LONGEST_WAIT:
                return Failed(words, wait=wait)
            hint = f"; it wants to be asked again in {wait:.0f} s"
        elif status in REFUSED:
            # A setting that changes nothing is no loss; those that were asked for are.
            without = problem.param in NEUTRAL and problem.param not in self.endpoint.extra_body
            self.neutral.pop(problem.param or "", None)
            return Failed(words, retry=without)
        elif status in (401, 403):
            hint = f"; {'set' if self.key == NO_KEY else 'it does not accept'} {KEY}"
        elif status == 404:
            hint = f"; is {self.endpoint.model} served there, and does the address end in /v1?"
        return EndpointError(f"{self.endpoint.url}: {words}{hint}")

    def hide(self, text: str) -> str:
        """A server's words without the key, should it repeat it; a short word is no secret."""
        return text.replace(self.key, "***") if len(self.key) >= 8 else text

    def clean(self, text: str) -> str:
        """A server's words as one line, not too long, for an error."""
        line = " ".join(self.hide(text).split())
        return line if len(line) <= 300 else f"{line[:300]} …"


def api_key() -> str:
    """The key in the environment, or NO_KEY."""
    return os.environ.get(KEY, "").strip() or NO_KEY


class Completion(NamedTuple):
    """What a server said.

    Attributes:
        text: the completion.
        finish_reason, prompt_tokens, completion_tokens: as `Response` has them.
    """

    text: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def read_completion(text: str) -> Completion:
    """The completion in a server's reply, and what the reply says about it.

    Reasoning that the server took out of the text is put back, in think tags. An answer that
    reached its length or was filtered before it had any text is an empty one.

    Raises:
        ValueError: there is none in it; the message says what is wrong, as in "the reply …".

    >>> read_completion('{"choices": [{"message": {"content": "<answer></answer>"}}]}').text
    '<answer></answer>'
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"is no JSON: {text[:80]}") from None
    match document:
        case {"choices": [{"message": {"content": str() | None as content, **rest}} as choice, *_]}:
            pass
        case _:
            raise ValueError(f"holds no completion: {text[:80]}")
    reason = choice.get("finish_reason")
    if not isinstance(reason, str) or not 0 < len(reason) <= LONGEST_REASON:
        reason = None
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    reasoning = rest.get("reasoning_content") or rest.get("reasoning")
    if content is None:
        refusal = rest.get("refusal")
        if isinstance(refusal, str):
            content = refusal
        elif reason in ("length", "content_filter"):
            content = ""
        else:
            raise ValueError("holds a message without text")
    if isinstance(reasoning, str) and "<think>" not in content:
        content = f"<think>{reasoning}</think>{content}"
    # JSON can name half a surrogate pair, which no file can hold.
    words, reason = (t and t.encode("utf-8", "replace").decode() for t in (content, reason))
    counts = (token_count(usage.get(key)) for key in ("prompt_tokens", "completion_tokens"))
    return Completion(words, reason, *counts)


LONGEST_REASON = 40
"""Characters of a finish reason; something longer is none."""


def token_count(value: Any) -> int | None:
    """A number of tokens in a reply, if it can be one."""
    return value if type(value) is int and 0 <= value < 10**9 else None


def retry_after(header: str | None) -> float:
    """Seconds that a Retry-After header asks for; 0 without one, or if it makes no sense.

    >>> retry_after("7"), retry_after("soon"), retry_after(None)
    (7.0, 0.0, 0.0)
    """
    try:
        seconds = float(header or 0)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header or "").timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(0.0, seconds) if seconds == seconds else 0.0

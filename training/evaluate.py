"""Asking a model every question of a split, and scoring what it says.

evaluation.json    what was asked of whom; the folder belongs to that one evaluation
predictions.jsonl  one line for each answer, added as it comes
metrics.json       written once all questions are answered
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from star_tvr.extras import require
from star_tvr.scenes.errors import ConfigError, DataError, ParameterError, printable
from star_tvr.schemas.checks import read_json
from star_tvr.schemas.config import merge, parse_override
from star_tvr.schemas.dataset import dumps, dumps_line
from star_tvr.schemas.files import write_whole
from star_tvr.schemas.folders import refuse_other, was_begun
from star_tvr.schemas.locks import lock_folder
from star_tvr.training.backends import Backend, Decoding, Question, Response
from star_tvr.training.config import PromptConfig
from star_tvr.training.endpoint_backend import CapReached, Endpoint, EndpointError
from star_tvr.training.local_backend import LocalModel
from star_tvr.training.metrics_report import MetricsReport, score_file
from star_tvr.training.pairs import choose_questions, shuffled_images
from star_tvr.training.parquet_dataset import ParquetDataset, open_dataset
from star_tvr.training.predictions import read_predictions
from star_tvr.training.rows import RowReader
from star_tvr.training.run_folder import as_begun, stored_input
from star_tvr.training.seen_scenes import count_seen


def run(
    dataset: str | Path,
    split: str | Sequence[str],
    model: str,
    out: str | Path,
    adapter: str | None = None,
    batch_size: int = 8,
    max_new_tokens: int | None = None,
    prompt: PromptConfig | None = None,
    device: str = "auto",
    allow_download: bool = False,
    limit: int | None = None,
) -> MetricsReport:
    """Let a local model answer a split greedily, and score it; `prepare` can do more.

    Args:
        dataset, split, out, prompt, limit: as `prepare` has them.
        model, adapter, batch_size, device, allow_download: as `LocalModel` has them.
        max_new_tokens: as `Decoding` has it.

    Raises:
        What `prepare` does, and TrainingError: the model cannot be loaded.
    """
    local = LocalModel(model, adapter, batch_size, device, allow_download)
    with lock_folder(Path(out)):
        decoding = Decoding(max_new_tokens)
        session = prepare(dataset, split, local, out, decoding, prompt, limit=limit)
        for _ in session.answers():
            pass
        return session.score()


def choose_backend(
    model: str,
    adapter: str | None = None,
    batch_size: int = 8,
    device: str = "auto",
    allow_download: bool = False,
    endpoint: str | None = None,
    concurrency: int = 8,
    timeout: float = 120,
    retries: int = 5,
    max_requests: int | None = None,
    extra_body: Mapping[str, Any] | None = None,
    reasoning_effort: str | None = None,
    run: str | None = None,
) -> Backend:
    """A model on this machine, or behind a server if there is an `endpoint`.

    Args:
        model: a folder or a hub name; or its name at the endpoint.
        adapter, batch_size, device, allow_download: as `LocalModel` has them.
        endpoint: the server's address.
        concurrency, timeout, retries, max_requests, extra_body, reasoning_effort: as `Endpoint`
            has them.
        run: as `Endpoint` has it; of no concern to a model on this machine.

    Raises:
        ParameterError: one of these goes with the other kind only.
        ConfigError: a package that the kind needs is not installed.
    """
    if endpoint is None:
        for name, value in (
            ("max_requests", max_requests),
            ("extra_body", extra_body and dict(extra_body)),
            ("reasoning_effort", reasoning_effort),
        ):
            if value is not None:
                raise ParameterError(name, "goes with an endpoint only", value)
        require("tvr evaluate", "torch", "transformers")
        return LocalModel(model, adapter, batch_size, device, allow_download)
    if adapter is not None:
        message = "does not go with an endpoint; the server has to load it"
        raise ParameterError("adapter", message, adapter)
    require("tvr evaluate --endpoint", "openai", "httpx2")
    return Endpoint(
        endpoint,
        model,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        max_requests=max_requests,
        extra_body=extra_body or {},
        reasoning_effort=reasoning_effort,
        run=run,
    )


def choose_prompt(given: Sequence[str], trained: PromptConfig) -> PromptConfig:
    """How questions are worded.

    Args:
        given: each either `key=value`, or the folder of a run that words them so.
        trained: what the first `key=value` changes, if no folder comes before it.

    Raises:
        ParameterError: one of them is neither, or has a key or a value that does not exist.
        ConfigError: the configuration of a run cannot be read.
    """
    chosen = trained
    for text in given:
        if not is_run(text) and "=" in text:
            try:
                document = merge(chosen.to_json(), parse_override(text))
                chosen = PromptConfig.parse(document, "prompt")
            except ParameterError as problem:
                raise ParameterError("prompt", problem.message, text) from None
            except ConfigError as problem:
                raise ParameterError(
                    "prompt", str(problem).removeprefix("prompt: "), text
                ) from None
            continue
        asked = stored_input(text)
        if asked is None:
            message = "is neither key=value nor the folder of a run (with a config.yaml)"
            raise ParameterError("prompt", message, text)
        chosen = asked.prompt
    return chosen


def is_run(text: str) -> bool:
    """Whether an argument for the prompt is a folder, and not `key=value`."""
    return Path(text).is_dir()


def prepare(
    dataset: str | Path,
    split: str | Sequence[str],
    backend: Backend,
    out: str | Path,
    decoding: Decoding | None = None,
    prompt: PromptConfig | None = None,
    shuffle_images: bool = False,
    limit: int | None = None,
) -> "Session":
    """Open an evaluation's folder and find out what is left to ask. Nothing is asked yet.

    A model that was trained here on scenes that it is asked about is a line on stderr.

    Two that work in one folder at a time are kept apart by `schemas.locks.lock_folder` around this
    and all that follows.

    Args:
        dataset: a data set folder, or its export in parquet.
        split: such as `cross-view/test_ood`, or several, for metrics over all and of each.
        backend: a `LocalModel` or an `Endpoint`.
        out: the folder for predictions and metrics.
        decoding: by default one greedy answer to each question.
        prompt: the wording; by default the one that the model was trained with here, or the full
            one.
        shuffle_images: a control: show with every question the images of another one.
        limit: ask so many questions only, see `choose_questions`. A folder goes on with a higher
            limit, and without one.

    Raises:
        ConfigError: there is no such model, or `out` belongs to another evaluation.
        DataError: no such data set or split, or a damaged file in it or in `out`.
    """
    splits = (split,) if isinstance(split, str) else tuple(dict.fromkeys(split))
    trained = backend.trained()
    decoding = (decoding or Decoding()).resolve(trained, backend.temperature)
    opened = open_dataset(Path(dataset), splits[0])
    if len(splits) > 1 and isinstance(opened, ParquetDataset):
        message = f"{dataset} is an export, which is read a split at a time; ask about each apart"
        raise ParameterError("split", message)
    pairs = choose_questions(opened, splits, limit)
    backend.check()
    wording = prompt or trained.prompt
    folder = Path(out)
    identity = backend.identity()
    seen = count_seen(opened, pairs, (identity["model"], identity.get("adapter")))
    evaluation = {
        "dataset": str(dataset),
        "split": splits[0] if len(splits) == 1 else list(splits),
        **identity,
        **asdict(decoding),
        "prompt": wording.to_json(),
        **({"shuffle_images": True} if shuffle_images else {}),
        **({} if limit is None else {"limit": limit}),
    }
    open_evaluation(folder, evaluation)
    if seen:
        words = (
            f"{folder}: the model was trained on {seen} of the {len({p.sample for p in pairs})} "
            f"scenes of {dataset}, {' and '.join(splits)}; ask about a split of the same scheme, "
            "or a data set with another seed"
        )
        print(printable(words), file=sys.stderr)
    predictions = folder / "predictions.jsonl"
    drop_torn_line(predictions)
    questions = [Question(pair, draw) for pair in pairs for draw in range(decoding.num_samples)]
    answered = {Question(*key): found.line for key, found in read_predictions(predictions).items()}
    unknown = answered.keys() - set(questions)
    if unknown:
        raise DataError(
            f"{predictions}, line {min(answered[q] for q in unknown)}: answers what is not in "
            f"{' and '.join(splits)}; the split has changed since, so choose another folder"
        )
    left = tuple(q for q in questions if q not in answered)
    # Whatever the limit, a question is asked with the same pictures.
    sources = shuffled_images(choose_questions(opened, splits)) if shuffle_images else {}
    reader = RowReader(opened, wording, image_sources=sources)
    return Session(folder, splits, limit, reader, backend, decoding, left, len(questions))


@dataclass(frozen=True)
class Session:
    """An evaluation under way.

    Attributes:
        folder: where its files are.
        splits: what is asked, such as `cross-view/test_ood`.
        limit: how many of its questions; None is all.
        reader: makes the questions.
        backend: who is asked.
        decoding: how its words become an answer.
        left: the questions without an answer when it was opened.
        total: number of questions, answered or not.
    """

    folder: Path
    splits: tuple[str, ...]
    limit: int | None
    reader: RowReader
    backend: Backend
    decoding: Decoding
    left: tuple[Question, ...]
    total: int

    @property
    def done(self) -> int:
        """How many questions had an answer when it was opened."""
        return self.total - len(self.left)

    def answers(self) -> Iterator[Response]:
        """Ask what is left. Each answer is in the file when it is yielded.

        Raises:
            DataError: an image is missing or damaged.
            TrainingError: the model cannot be loaded.
            EndpointError: the server cannot be used, or no more requests may be sent.
        """
        if not self.left:
            return
        missing = len(self.left)
        try:
            with open(self.folder / "predictions.jsonl", "a", encoding="utf-8") as file:
                for answer in self.backend.answers(self.reader, self.left, self.decoding):
                    if answer.completion is not None:
                        missing -= 1
                        file.write(dumps_line(self._line(answer)))
                        file.flush()
                    yield answer
        except CapReached as problem:
            raise EndpointError(f"{problem}; {self._not_answered(missing)}") from None

    def score(self) -> MetricsReport:
        """Score the answers and write `metrics.json`.

        Raises:
            EndpointError: some questions have no answer.
        """
        predictions = self.folder / "predictions.jsonl"
        missing = self.total - len(read_predictions(predictions))
        if missing:
            raise EndpointError(self._not_answered(missing))
        report = score_file(predictions, self.reader.dataset, self.splits, self.limit)
        write_whole(self.folder / "metrics.json", dumps(report.to_json()))
        return report

    def remark(self, report: MetricsReport) -> str:
        """A line about answers that were cut off, or nothing."""
        cut, total, longest = report.truncated, len(report.results), self.decoding.max_new_tokens
        if not cut:
            return ""
        words = "so nothing was measured but that" if cut == total else "and count as they are"
        return (
            f"{self.folder}: {cut} of {total} answers were cut off at {longest} tokens, {words}; "
            "a higher max_new_tokens, in another folder, lets them end"
        )

    def _line(self, answer: Response) -> dict[str, Any]:
        pair, draw = answer.question
        several = {"draw": draw} if self.decoding.num_samples > 1 else {}
        return {**pair.to_json(), **several, **answer.to_json()}

    def _not_answered(self, missing: int) -> str:
        things = "items" if self.decoding.num_samples == 1 else "draws"
        return f"{self.folder}: {missing} of {self.total} {things} not answered; run again"


def open_evaluation(folder: Path, evaluation: dict[str, Any]) -> None:
    """Begin an evaluation's folder, or make sure that it is this evaluation's.

    Raises:
        ConfigError: it belongs to another one, or holds something else.
    """
    path = folder / "evaluation.json"
    if was_begun(folder, path.name):
        former = read_json(path)
        former = as_begun(former)
        if "exchange_images" in former:  # its former name
            former["shuffle_images"] = former.pop("exchange_images")
        refuse_other(folder, former, evaluation, {"limit"})
        before, now = former.get("limit"), evaluation.get("limit")
        if before == now:
            return
        if now is not None and (before is None or now < before):
            message = f"{folder} asks {before or 'all questions'}; ask more, or in another folder"
            raise ParameterError("limit", message, now)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, dumps(evaluation))


def drop_torn_line(path: Path) -> None:
    """Cut off a last line without its end, left by an interruption; make the file if need be."""
    with open(path, "a+b") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)

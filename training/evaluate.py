"""Asking a model every question of a split, and scoring what it says.

evaluation.json    what was asked of whom; the folder belongs to that one evaluation
predictions.jsonl  one line for each answer, added as it comes
metrics.json       written once all questions are answered
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from star_tvr.extras import require
from star_tvr.scenes.errors import DataError, ParameterError, printable
from star_tvr.schemas.checks import read_json
from star_tvr.schemas.dataset import dumps, dumps_line
from star_tvr.schemas.files import write_whole
from star_tvr.schemas.folders import refuse_other, was_begun
from star_tvr.schemas.locks import lock_folder
from star_tvr.training.backends import Backend, Decoding, Question, Response
from star_tvr.training.config import PromptConfig
from star_tvr.training.endpoint_backend import CapReached, Endpoint, EndpointError
from star_tvr.training.local_backend import LocalModel
from star_tvr.training.metrics_report import MetricsReport, score_file
from star_tvr.training.pairs import choose_pairs, shuffled_images
from star_tvr.training.parquet_dataset import open_dataset
from star_tvr.training.predictions import read_predictions
from star_tvr.training.rows import RowReader
from star_tvr.training.seen_scenes import count_seen


def run(
    dataset: str | Path,
    split: str,
    model: str,
    out: str | Path,
    adapter: str | None = None,
    batch_size: int = 8,
    max_new_tokens: int = 512,
    prompt: PromptConfig | None = None,
    device: str = "auto",
    allow_download: bool = False,
) -> MetricsReport:
    """Let a local model answer a split greedily, and score it; `prepare` can do more.

    Raises:
        What `prepare` does, and TrainingError: the model cannot be loaded.
    """
    local = LocalModel(model, adapter, batch_size, device, allow_download)
    with lock_folder(Path(out)):
        session = prepare(dataset, split, local, out, Decoding(max_new_tokens), prompt)
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
) -> Backend:
    """A model on this machine, or behind a server if there is an `endpoint`.

    Args:
        model: a folder or a hub name; or its name at the endpoint.
        adapter, batch_size, device, allow_download: as `LocalModel` has them.
        endpoint: the server's address.
        concurrency, timeout, retries, max_requests: as `Endpoint` has them.

    Raises:
        ParameterError: one of these goes with the other kind only.
        ConfigError: a package that the kind needs is not installed.
    """
    if endpoint is None:
        if max_requests is not None:
            raise ParameterError("max_requests", "goes with an endpoint only", max_requests)
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
    )


def prepare(
    dataset: str | Path,
    split: str,
    backend: Backend,
    out: str | Path,
    decoding: Decoding | None = None,
    prompt: PromptConfig | None = None,
    shuffle_images: bool = False,
) -> "Session":
    """Open an evaluation's folder and find out what is left to ask. Nothing is asked yet.

    A model that was trained here on scenes that it is asked about is a line on stderr.

    Two that work in one folder at a time are kept apart by `schemas.locks.lock_folder` around this
    and all that follows.

    Args:
        dataset: a data set folder, or its export in parquet.
        split: such as `cross-view/test_ood`.
        backend: a `LocalModel` or an `Endpoint`.
        out: the folder for predictions and metrics.
        decoding: by default one greedy answer to each question.
        prompt: the wording; by default the one that the model was trained with here, or the full
            one.
        shuffle_images: a control: show with every question the images of another one.

    Raises:
        ConfigError: there is no such model, or `out` belongs to another evaluation.
        DataError: no such data set or split, or a damaged file in it or in `out`.
    """
    opened = open_dataset(Path(dataset), split)
    pairs = dict.fromkeys(choose_pairs(opened, split, "split"))
    backend.check()
    decoding = decoding or Decoding()
    wording = prompt or backend.trained().prompt
    folder = Path(out)
    identity = backend.identity()
    seen = count_seen(opened, pairs, (identity["model"], identity.get("adapter")))
    evaluation = {
        "dataset": str(dataset),
        "split": split,
        **identity,
        **asdict(decoding),
        "prompt": wording.to_json(),
        **({"shuffle_images": True} if shuffle_images else {}),
    }
    open_evaluation(folder, evaluation)
    if seen:
        words = (
            f"{folder}: the model was trained on {seen} of the {len({p.sample for p in pairs})} "
            f"scenes of {dataset}, {split}; ask about a split of the same scheme, or a data set "
            "with another seed"
        )
        print(printable(words), file=sys.stderr)
    predictions = folder / "predictions.jsonl"
    drop_torn_line(predictions)
    questions = [Question(pair, draw) for pair in pairs for draw in range(decoding.num_samples)]
    answered = {Question(*key): line for key, (line, _) in read_predictions(predictions).items()}
    unknown = answered.keys() - set(questions)
    if unknown:
        raise DataError(
            f"{predictions}, line {min(answered[q] for q in unknown)}: answers what is not in "
            f"{split}; the split has changed since, so choose another folder"
        )
    left = tuple(q for q in questions if q not in answered)
    sources = shuffled_images(list(pairs)) if shuffle_images else {}
    reader = RowReader(opened, wording, image_sources=sources)
    return Session(folder, split, reader, backend, decoding, left, len(questions))


@dataclass(frozen=True)
class Session:
    """An evaluation under way.

    Attributes:
        folder: where its files are.
        split: what is asked, such as `cross-view/test_ood`.
        reader: makes the questions.
        backend: who is asked.
        decoding: how its words become an answer.
        left: the questions without an answer when it was opened.
        total: number of questions, answered or not.
    """

    folder: Path
    split: str
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
        report = score_file(predictions, self.reader.dataset, self.split)
        write_whole(self.folder / "metrics.json", dumps(report.to_json()))
        return report

    def _line(self, answer: Response) -> dict[str, Any]:
        pair, draw = answer.question
        several = {"draw": draw} if self.decoding.num_samples > 1 else {}
        return {**pair.to_json(), **several, "completion": answer.completion}

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
        if "exchange_images" in former:  # its former name
            former["shuffle_images"] = former.pop("exchange_images")
        refuse_other(folder, former, evaluation)
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, dumps(evaluation))


def drop_torn_line(path: Path) -> None:
    """Cut off a last line without its end, left by an interruption; make the file if need be."""
    with open(path, "a+b") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)

"""Asking a model every question of a split, and scoring what it says.

evaluation.json    what was asked of whom; the folder belongs to that one evaluation
predictions.jsonl  one line for each answer, added as it comes
metrics.json       written once all questions are answered
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scenes.errors import ConfigError
from schemas.checks import parse_json, read_json
from schemas.config import read_yaml
from schemas.dataset import Dataset, dumps, dumps_line, write_whole
from schemas.records import Pair
from training.config import cuda_available
from training.metrics import Report, score_file
from training.models import (
    check_model,
    load_adapter,
    load_model,
    load_processor,
    quiet_libraries,
)
from training.prompts import Message, PromptConfig, with_images
from training.rows import RowReader

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Evaluation:
    """What is asked of whom.

    Attributes:
        dataset, split: the questions.
        model: a folder or a hub name; `adapter`: a LoRA adapter on it, or None.
        max_new_tokens: length at which an answer is cut off.
        prompt: the wording of the questions.
        processor: arguments of the processor.
        weights: tells one state of the weights from another.
    """

    dataset: str
    split: str
    model: str
    adapter: str | None
    max_new_tokens: int
    prompt: PromptConfig
    processor: Mapping[str, Any]
    weights: str


def run(
    dataset: str | Path,
    split: str,
    model: str,
    out: str | Path,
    adapter: str | None = None,
    batch_size: int = 8,
    max_new_tokens: int = 512,
    prompt: PromptConfig | None = None,
    device: Device = "auto",
    allow_download: bool = False,
) -> Report:
    """Answer a split greedily and score the answers; goes on where it was interrupted.

    Args:
        dataset: a data set folder.
        split: such as `cross-view/test_ood`.
        model: a model folder, or a hub name.
        out: the folder for predictions and metrics.
        adapter: a folder with a LoRA adapter for the model.
        batch_size: questions asked at once.
        max_new_tokens: length at which an answer is cut off.
        prompt: the wording; by default the one that adapter or model was trained with here, or
            the full one.
        device: `auto` is a GPU where there is one.
        allow_download: whether the hub may be asked for the model.

    Raises:
        ConfigError: no such model, adapter or device, or `out` belongs to another evaluation.
        DataError: no such data set or split, or a damaged file in it.
        TrainingError: the model cannot be loaded.
    """
    opened = Dataset.open(dataset)
    pairs = opened.split(split)
    place = _device(device)
    check_model(model, allow_download)
    if adapter is not None and not Path(adapter, "adapter_config.json").is_file():
        raise ConfigError(f"--adapter {adapter}: there is no adapter_config.json in it")
    trained = trained_with(adapter) or trained_with(model) or {}
    evaluation = Evaluation(
        dataset=str(dataset),
        split=split,
        model=model,
        adapter=adapter,
        max_new_tokens=max_new_tokens,
        prompt=prompt or PromptConfig(**trained.get("prompt", {})),
        processor=trained.get("processor", {}),
        weights=fingerprint([p for p in (model, adapter) if p is not None]),
    )
    folder = Path(out)
    open_folder(folder, evaluation)
    predictions = folder / "predictions.jsonl"
    answered = drop_torn_line(predictions)
    left = [pair for pair in pairs if pair not in answered]
    if left:
        answerer = Answerer.load(evaluation, opened, place, allow_download)
        _ask(answerer, left, predictions, batch_size, len(pairs))
    report = score_file(predictions, opened, split)
    write_whole(folder / "metrics.json", dumps(report.to_json()))
    return report


@dataclass(frozen=True)
class Answerer:
    """A loaded model that answers questions greedily.

    Attributes:
        reader: makes the questions.
        model, processor: from transformers.
        max_new_tokens: length at which an answer is cut off.
    """

    reader: RowReader
    model: Any
    processor: Any
    max_new_tokens: int

    @classmethod
    def load(
        cls, evaluation: Evaluation, dataset: Dataset, device: str, allow_download: bool
    ) -> "Answerer":
        """Load the weights. Raises TrainingError."""
        quiet_libraries()
        processor = load_processor(evaluation.model, evaluation.processor, allow_download)
        options = {"dtype": "bfloat16" if device == "cuda" else "float32"}
        model = load_model(evaluation.model, options, allow_download)
        if evaluation.adapter is not None:
            model = load_adapter(model, evaluation.adapter, trainable=False)
        model = model.to(device).eval()
        reader = RowReader(dataset, evaluation.prompt)
        return cls(reader, model, processor, evaluation.max_new_tokens)

    def answer(self, pairs: Sequence[Pair]) -> list[str]:
        """The completions for some questions, in their order.

        Raises:
            DataError: an image is missing or damaged.
        """
        import torch

        rows = [self.reader.row(pair) for pair in pairs]
        inputs = self.encode([with_images(row["prompt"], row["images"]) for row in rows])
        with torch.inference_mode():
            tokens = self.model.generate(
                **inputs,
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.processor.tokenizer.pad_token_id,
            )
        new = tokens[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self.processor.batch_decode(new, skip_special_tokens=True)
        return texts

    def encode(self, conversations: Sequence[Sequence[Message]]) -> Any:
        """The model's inputs for some conversations, padded on the left."""
        inputs = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        return inputs.to(self.model.device)


def open_folder(folder: Path, evaluation: Evaluation) -> None:
    """Begin an evaluation's folder, or make sure that it is this evaluation's.

    Raises:
        ConfigError: it belongs to another one.
    """
    path = folder / "evaluation.json"
    new = asdict(evaluation)
    if path.is_file():
        old = read_json(path)
        for key, value in new.items():
            if old.get(key) != value:
                raise ConfigError(
                    f"--out {folder}: holds an evaluation with {key} {old.get(key)!r}, not "
                    f"{value!r}; choose another folder or delete this one"
                )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, dumps(new))


def drop_torn_line(path: Path) -> set[Pair]:
    """The pairs that are answered in a file of predictions.

    A last line without its end, left by an interruption, is cut off.

    Raises:
        DataError: another line is damaged.
    """
    if not path.is_file():
        path.touch()
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with open(path, "r+b") as file:
            file.truncate(len(whole))
    pairs = set()
    for number, line in enumerate(whole.decode("utf-8").split("\n"), start=1):
        if line:
            data = parse_json(line, f"{path}, line {number}")
            pairs.add(Pair(data["sample"], data["initial"], data["final"]))
    return pairs


def trained_with(folder: str | None) -> dict[str, Any] | None:
    """The training configuration beside a model, adapter or checkpoint that was trained here."""
    if folder is None:
        return None
    path = Path(folder)
    run = path.parent if path.name.startswith("checkpoint-") else path
    return read_yaml(run / "config.yaml") if (run / "config.yaml").is_file() else None


def fingerprint(folders: Sequence[str]) -> str:
    """A hash that changes when the weights in some folders do.

    Of every weight file it reads the size and both ends, which is fast for any size: training
    changes all weights, so also those. Names on the hub count as names.
    """
    digest = hashlib.sha256()
    for folder in folders:
        digest.update(folder.encode())
        for path in sorted(Path(folder).glob("*.safetensors")):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with open(path, "rb") as file:
                digest.update(file.read(1 << 20))
                file.seek(max(0, size - (1 << 20)))
                digest.update(file.read())
    return digest.hexdigest()[:16]


def _device(device: Device) -> str:
    if device == "cuda" and not cuda_available():
        raise ConfigError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    return ("cuda" if cuda_available() else "cpu") if device == "auto" else device


def _ask(
    answerer: Answerer, pairs: Sequence[Pair], path: Path, batch_size: int, total: int
) -> None:
    """Answer the pairs and append the answers to the file."""
    console = Console(stderr=True)
    columns = (TextColumn("evaluate"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = total - len(pairs)
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
        open(path, "a", encoding="utf-8") as file,
    ):
        task = bar.add_task("", total=total, completed=done)
        for batch in _batches(pairs, batch_size):
            for pair, completion in zip(batch, answerer.answer(batch), strict=True):
                file.write(dumps_line({**pair.to_json(), "completion": completion}))
            file.flush()
            done += len(batch)
            bar.update(task, completed=done)
            if not console.is_terminal:
                console.print(f"evaluate {done}/{total}", highlight=False)


def _batches(pairs: Sequence[Pair], size: int) -> Iterator[Sequence[Pair]]:
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]

"""What training and evaluation leave in folders, found and read for a report.

Reading is lenient: what is damaged or gone becomes a problem that the report shows, not an error,
as long as there is anything to show at all.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from star_tvr.scenes.errors import DataError, TvrError
from star_tvr.schemas.checks import read_json
from star_tvr.schemas.config import read_yaml
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.files import read_text
from star_tvr.training.config import TINY
from star_tvr.training.metrics_report import MetricsReport, read_metrics, score_file
from star_tvr.training.parquet_dataset import open_dataset

TINY_WIDTH = 256
"""No language model worth the name has hidden states this narrow."""

NOT_SEARCHED = re.compile(r"checkpoint-[0-9]+|completions|runs|\..*|__pycache__|node_modules")


@dataclass(frozen=True)
class TrainingRun:
    """A folder that training wrote.

    Attributes:
        name: its path within the reported folder.
        kind: `sft`, `grpo`, or empty if unknown.
        config: the content of `config.yaml`; `state` that of `run.json`.
        log: the lines of `log.jsonl` that can be read.
        tiny: whether its model was built on the spot.
    """

    name: str
    folder: Path
    kind: str
    config: Mapping[str, Any]
    state: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    tiny: bool = False


@dataclass(frozen=True)
class Evaluation:
    """A folder that an evaluation wrote.

    Attributes:
        name: its path within the reported folder.
        settings: the content of `evaluation.json`.
        dataset: the data set it asked about, if that can be found.
        report: its metrics.
        tiny: whether its model was built on the spot.
    """

    name: str
    settings: Mapping[str, Any]
    dataset: Dataset | None
    report: MetricsReport
    tiny: bool = False

    @property
    def split(self) -> str:
        """What was asked, such as `cross-view/test_id`; several with commas between them."""
        words = ", ".join(_splits(self.settings)) or "unknown split"
        limit = self.settings.get("limit")
        return f"{words} ({limit} questions)" if limit else words

    @property
    def questions(self) -> tuple[str, str]:
        """Evaluations for which this is the same answered the same questions."""
        root = self.dataset.root.resolve() if self.dataset else self.settings.get("dataset")
        return str(root), self.split


@dataclass
class ReportData:
    """What is under a folder, and what could not be read of it."""

    runs: list[TrainingRun] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_report_data(folder: Path) -> ReportData:
    """Every training run and evaluation under a folder, in the order of their making.

    Raises:
        DataError: there is none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder")
    found = ReportData()
    runs: list[Path] = []
    evaluations: list[Path] = []
    datasets: list[Path] = []
    for path, names in _walk(folder):
        if "log.jsonl" in names or "run.json" in names:
            runs.append(path)
        if {"evaluation.json", "metrics.json", "predictions.jsonl"} & names:
            evaluations.append(path)
        if "dataset.json" in names:
            datasets.append(path)
    if not runs and not evaluations:
        raise DataError(
            f"{folder}: nothing to report: neither a training run (run.json, log.jsonl) nor an "
            "evaluation (evaluation.json, predictions.jsonl, metrics.json) is in it"
        )
    for path in runs:
        run = _read_run(path, _name(path, folder), found.problems)
        if run.kind != "merge":  # of a run that is shown itself
            found.runs.append(run)
    family = Family(found.runs)
    for path, name in zip(evaluations, _short(evaluations, folder), strict=True):
        try:
            found.evaluations.append(_read_evaluation(path, name, datasets, family, found.problems))
        except TvrError as problem:
            found.problems.append(str(problem))
    found.runs = [replace(r, tiny=family.tiny(r.config.get("model"))) for r in found.runs]
    found.runs.sort(key=lambda r: (family.age(r.config), r.kind != "sft", _natural(r.name)))
    order = {s: k for k, s in enumerate(sorted({e.questions for e in found.evaluations}))}
    found.evaluations.sort(
        key=lambda e: (
            order[e.questions],
            family.age(e.settings),
            "before" not in e.name,
            _natural(e.name),
        )
    )
    return found


def _walk(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    """Folders with the names of their files, without the insides of data sets and checkpoints."""
    for root, folders, files in os.walk(folder):
        inner = {"samples", "splits"} if "dataset.json" in files else set()
        folders[:] = sorted(f for f in folders if f not in inner and not NOT_SEARCHED.fullmatch(f))
        yield Path(root), set(files)


def _name(path: Path, folder: Path) -> str:
    return folder.resolve().name if path == folder else str(path.relative_to(folder))


def _short(paths: Sequence[Path], folder: Path) -> list[str]:
    """Names of several folders, without the folders that all of them are in."""
    if len(paths) < 2:
        return [_name(path, folder) for path in paths]
    common = Path(os.path.commonpath(paths))
    return [_name(path, common) for path in paths]


def _natural(name: str) -> list[tuple[int, str]]:
    """A sorting key that puts run-10 after run-9."""
    return [(int(d) if d else 0, t) for d, t in re.findall(r"([0-9]+)|([^0-9]+)", name)]


class Family:
    """Which model came from which: by the configurations of the runs, and those beside models."""

    def __init__(self, runs: Iterable[TrainingRun]) -> None:
        self.configs = {str(r.config["output_dir"]): r.config for r in runs if r.config}
        self.configs |= {str(r.folder): r.config for r in runs if r.config}

    def parents(self, made: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The configurations of all trainings before a run or an evaluation, newest first."""
        names = [made.get("adapter"), made.get("model")]
        seen: dict[str, Mapping[str, Any]] = {}
        while names:
            name = names.pop(0)
            if isinstance(name, str) and name not in seen and (config := self.config(name)):
                seen[name] = config
                names += [config.get("adapter"), config.get("model")]
        return list(seen.values())

    def config(self, name: str) -> Mapping[str, Any] | None:
        """The training configuration of a model, by its folder."""
        if name in self.configs:
            return self.configs[name]
        path = Path(name) / "config.yaml"
        return _read_mapping(path, []) if path.is_file() else None

    def age(self, made: Mapping[str, Any]) -> int:
        """How many trainings came before."""
        return len(self.parents(made))

    def tiny(self, model: Any, adapter: Any = None) -> bool:
        """Whether a model goes back to one built on the spot."""
        parents = self.parents({"model": model, "adapter": adapter})
        names = [model, *(config.get("model") for config in parents)]
        return any(name in TINY or _narrow(name) for name in names)


def _narrow(model: Any) -> bool:
    """Whether a model folder is too small to be a real one."""
    path = Path(str(model)) / "config.json"
    if not path.is_file():
        return False
    config = _read_mapping(path, [])
    text = config.get("text_config")
    width = (text if isinstance(text, dict) else config).get("hidden_size")
    return isinstance(width, int) and width < TINY_WIDTH


def _read_mapping(path: Path, problems: list[str]) -> Mapping[str, Any]:
    """A JSON or YAML file that holds a mapping; an empty one, and a problem, if it does not."""
    try:
        document = read_yaml(path) if path.suffix == ".yaml" else read_json(path)
    except TvrError as problem:
        problems.append(str(problem))
        return {}
    if not isinstance(document, dict):
        problems.append(f"{path}: is not a mapping")
        return {}
    return document


def _read_run(folder: Path, name: str, problems: list[str]) -> TrainingRun:
    config, state = (
        _read_mapping(folder / file, problems) if (folder / file).is_file() else {}
        for file in ("config.yaml", "run.json")
    )
    log = _read_log(folder / "log.jsonl", problems)
    kind = str(config.get("kind") or state.get("kind") or "")
    return TrainingRun(name, folder, kind, {"output_dir": str(folder), **config}, state, log)


def _read_log(path: Path, problems: list[str]) -> list[Mapping[str, Any]]:
    """The lines that can be read; a run that goes on may be writing the last one."""
    if not path.is_file():
        return []
    lines: list[Mapping[str, Any]] = []
    damaged = 0
    try:
        text = read_text(path)
    except DataError as problem:
        problems.append(str(problem))
        return []
    for line in text.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            damaged += 1
            continue
        if isinstance(document, dict):
            if "silent" in document:  # its name in older logs
                document["empty"] = document.pop("silent")
            lines.append(document)
    if damaged:
        problems.append(f"{path}: {damaged} damaged line{'s' if damaged > 1 else ''} left out")
    return lines


def _read_evaluation(
    path: Path, name: str, datasets: Sequence[Path], family: Family, problems: list[str]
) -> Evaluation:
    """Raises TvrError if its metrics can neither be read nor computed."""
    settings: Mapping[str, Any] = {}
    if (path / "evaluation.json").is_file():
        settings = _read_mapping(path / "evaluation.json", problems)
    splits, limit = _splits(settings), settings.get("limit")
    dataset = _find_dataset(settings.get("dataset"), splits[:1], datasets)
    if (path / "metrics.json").is_file():
        report = read_metrics(path / "metrics.json")
    elif dataset is None:
        where = settings.get("dataset") or "it does not say which"
        raise DataError(
            f"{path}: has no metrics.json, and its data set is not there to score its predictions "
            f"({where})"
        )
    elif not (path / "predictions.jsonl").is_file():
        raise DataError(f"{path}: has no predictions yet")
    else:
        limit = limit if isinstance(limit, int) else None
        report = score_file(path / "predictions.jsonl", dataset, splits or None, limit)
    return Evaluation(
        name=name,
        settings=settings,
        dataset=dataset,
        report=report,
        tiny=family.tiny(settings.get("model"), settings.get("adapter")),
    )


def _splits(settings: Mapping[str, Any]) -> list[str]:
    """The splits that an evaluation asked about."""
    stored = settings.get("split")
    return [str(name) for name in (stored if isinstance(stored, list) else [stored]) if name]


def _find_dataset(stored: Any, splits: Sequence[str], datasets: Sequence[Path]) -> Dataset | None:
    """The data set at the stored path, or one of that name among those that were found."""
    if not isinstance(stored, str):
        return None
    for path in (Path(stored), *(p for p in datasets if p.name == Path(stored).name)):
        try:
            return open_dataset(path, next(iter(splits), ""))
        except DataError:
            continue
    return None

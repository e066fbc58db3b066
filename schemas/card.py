"""The dataset card: what a data set holds and how to make it again, for people and for the hub.

Front matter: https://huggingface.co/docs/hub/datasets-cards.
"""

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import DataError, TvrError
from star_tvr.scenes.settings import Count, Settings, Share
from star_tvr.schemas.checks import parse_json
from star_tvr.schemas.config import load_config, preset_names
from star_tvr.schemas.dataset import Dataset, dumps_line
from star_tvr.schemas.files import read_bytes, read_text, write_whole, writing
from star_tvr.schemas.folders import differences

MARK = "<!-- Written by tvr. Without this line, tvr leaves the file alone. -->"

SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
"""The hub's words for numbers of samples below these."""

BLIND = "blind.json"
"""What `tvr stats --blind` writes."""


class BlindResult(Settings):
    """How often a question about samples was answered rightly without their pictures."""

    question: str
    """Its short name."""
    title: str
    """In words."""
    right: Share
    """Share of right answers."""
    low: Share
    """Lower end of its 95 % interval (normal approximation)."""
    high: Share
    """Upper end of it."""
    chance: Share
    """Share that guesses would reach that know the rules, but not the scene."""
    asked: Count
    """Number of questions."""

    @property
    def leaks(self) -> bool:
        """Whether it is better than chance, beyond the interval."""
        return self.low > self.chance


class BlindBaseline(Settings):
    """What can be learnt about a data set without its pictures; the content of `blind.json`."""

    samples: Count
    """Number of samples that were divided into some to learn from and some to be asked about."""
    questions: tuple[BlindResult, ...]
    """The questions."""


def read_blind(root: Path) -> BlindBaseline | None:
    """The `blind.json` of a data set, if there is one. Raises DataError if it is something else."""
    path = root / BLIND
    if not path.exists():
        return None
    try:
        return BlindBaseline.parse(parse_json(read_text(path, root=root), path), str(path))
    except TvrError as problem:
        raise DataError(f"{problem}; delete it and run tvr stats --blind again") from None


Configs = Mapping[str, Mapping[str, str]]
"""For the hub: pattern of the data files of every split of every configuration."""


@dataclass
class Summary:
    """What the samples of a data set are, counted in one pass over them.

    Attributes:
        plans: SHA-256 of the plans, one line of JSON each: that of `tvr render --plan-only`'s
            files, one after the other.
        samples, images: how many there are.
        tables: how often every value occurs, by the question that is counted.
    """

    plans: str = ""
    samples: int = 0
    images: int = 0
    tables: dict[str, Counter[str]] = field(default_factory=dict)

    def count(self, table: str, values: Iterable[Any]) -> None:
        """Add values to a table."""
        self.tables.setdefault(table, Counter()).update(map(str, values))


PLAN_KEYS = (
    *("schema_version", "id", "seed", "preset", "cameras", "lights", "states"),
    *("transformations", "answer"),
)
"""What `schemas.records.plan_to_json` gives, but for the images, in its order."""


def summarise(dataset: Dataset) -> Summary:
    """Count what is in a data set. Samples are read one at a time and not checked further.

    Raises:
        DataError: a sample cannot be read.
    """
    result = Summary()
    digest = hashlib.sha256()
    for sample in dataset.ids():
        path = dataset.folder(sample) / "sample.json"
        document = parse_json(dataset.text(sample), path)
        try:
            plan = {k: document[k] for k in PLAN_KEYS}
            plan["images"] = [{k: i[k] for k in ("state", "camera")} for i in document["images"]]
            objects = document["states"]["initial"]["objects"]
            changes = [t["attribute"] for t in document["transformations"]]
            result.count("Attribute of a transformation", changes)
            result.count("Transformations in a sample", [len(changes)])
            result.count("Objects visible at the start", [sum(o["visible"] for o in objects)])
            result.count(
                "Camera at the end",
                [i["camera"] for i in document["images"] if i["state"] == "final"],
            )
        except (KeyError, TypeError) as problem:
            raise DataError(f"{path}: is no sample ({problem}); run tvr validate") from None
        digest.update(dumps_line(plan).encode())
        result.samples += 1
        result.images += len(plan["images"])
    result.plans = digest.hexdigest()
    return result


def write_card(dataset: Dataset) -> None:
    """Write `README.md`, and the configuration beside it where no preset can name it.

    A `README.md` that somebody else wrote, or made their own by removing `MARK`, stays.

    Raises:
        DataError: a sample cannot be read, or the folder not be written.
    """
    path = dataset.root / "README.md"
    if path.exists() and MARK.encode() not in read_bytes(path, root=dataset.root):
        return
    text = card(dataset, summarise(dataset))
    with writing(path):
        _write(dataset, dataset.root, text)


def write_export_card(dataset: Dataset, folder: Path, form: str, configs: Configs) -> None:
    """Write the card of an export of `dataset` into `folder`.

    Args:
        form: the format's name.
        configs: what the hub's viewer and `datasets.load_dataset` are told; may be empty.
    """
    _write(dataset, folder, card(dataset, summarise(dataset), form, configs))


def _write(dataset: Dataset, folder: Path, text: str) -> None:
    files = {"README.md": text}
    changes = recipe_file(dataset.config)
    if changes is not None and dataset.manifest.source is None:
        files[f"{dataset.config.preset}.yaml"] = changes
    for name, content in files.items():
        path = folder / name
        # What copies a data set goes by a file's time: one that stays the same is left alone.
        if not path.exists() or read_bytes(path, root=folder) != content.encode():
            write_whole(path, content)


def card(dataset: Dataset, summary: Summary, form: str = "", configs: Configs | None = None) -> str:
    """The text of a card.

    Args:
        form: the format of an export; empty for the data set itself.
        configs: the data files of an export.
    """
    config, source = dataset.config, dataset.manifest.source
    size = next((name for limit, name in SIZES.items() if summary.samples < limit), "1M<n<10M")
    title = f"star-tvr {config.preset}"
    front: dict[str, Any] = {
        "pretty_name": title,
        "license": "apache-2.0" if source is None else "cc-by-nc-4.0",
        "language": ["en"],
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "tags": ["transformation-driven-visual-reasoning", "trance", "synthetic", "blender"],
        "size_categories": [size],
    }
    if configs:
        front["configs"] = [
            {
                "config_name": name,
                "data_files": [{"split": split, "path": path} for split, path in files.items()],
            }
            for name, files in configs.items()
        ]
    return TEMPLATE.render(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
        mark=MARK,
        title=title,
        form=form,
        config=config,
        summary=summary,
        total=dataset.manifest.counts["samples"],
        splits=dataset.split_names(),
        command=recipe(config) if source is None else import_recipe(source),
        has_file=recipe_file(config) is not None,
        blind=read_blind(dataset.root),
        scene_seed=config.scene_seed,
        versions=dataset.manifest.versions,
        source=source,
    )


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    """Values with their counts: numbers by size, words by the alphabet."""
    return sorted(counts.items(), key=lambda c: c[0].zfill(9) if c[0].isdigit() else c[0])


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
)
ENVIRONMENT.filters["ordered"] = _ordered
TEMPLATE = ENVIRONMENT.get_template("card.md.jinja")


def import_recipe(source: Mapping[str, Any]) -> str:
    """The command that imports a data set again."""
    words = ["tvr", "import-trance", "SRC", "OUT"]
    for attribute in source["attributes"]:
        words += ["--attribute", attribute]
    return " ".join([*words, *(["--strict"] if source["strict"] else [])])


def recipe(config: DatasetConfig, out: str = "OUT") -> str:
    """The one command that makes a data set with this configuration again.

    >>> recipe(load_config("star", ["image.width=160", "num_samples=8"]))
    'tvr render OUT --config star --num-samples 8 --seed 0 --set image.width=160'
    """
    name, numbers = config.preset, ["num_samples", "seed"]
    words = ["tvr", "render", out, "--config"]
    if recipe_file(config) is not None:
        words.append(f"{name}.yaml")
    else:
        words.append(name)
    words += ["--num-samples", str(config.num_samples), "--seed", str(config.seed)]
    if name in preset_names():
        for key, value in _changes(name, config).items():
            if key not in numbers:
                words += ["--set", f"{key}={_yaml(value)}"]
    return shlex.join(words)


def recipe_file(config: DatasetConfig) -> str | None:
    """What has to be in `<preset>.yaml` for `recipe`; None where a preset of ours is enough."""
    if config.preset in preset_names():
        return None
    document: dict[str, Any] = {"preset": "trance"}
    for key, value in _changes("trance", config).items():
        if key not in ("preset", "num_samples", "seed"):
            *path, last = key.split(".")
            block = document
            for part in path:
                block = block.setdefault(part, {})
            block[last] = value
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _changes(preset: str, config: DatasetConfig) -> dict[str, Any]:
    """The value of every key in which a configuration differs from a preset."""
    changed = differences(load_config(preset).to_json(), config.to_json())
    return {key: new for key, (_, new) in changed.items()}


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True
    )
    return text.strip().removesuffix("...").strip()

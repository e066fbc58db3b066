"""The data set folder: opening it, going through it, and adding a sample whole or not at all."""

import errno
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import ConfigError, DataError, TvrError
from star_tvr.scenes.world import World
from star_tvr.schemas.checks import check, parse_json, read_jsonl
from star_tvr.schemas.config import merge
from star_tvr.schemas.files import (
    make_folder,
    read_bytes,
    read_text,
    refuse_links,
    sync_folder,
    write_synced,
    write_whole,
    writer,
)
from star_tvr.schemas.folders import refuse_other, was_begun
from star_tvr.schemas.records import SCHEMA_VERSION, Pair, Sample

SAMPLES_PER_FOLDER = 1000
FORMER = "former"
"""The end of the hidden name that a sample has while another takes its place."""

FREE = ("num_samples", "tries")
"""Keys of a configuration that change no sample, so that they may differ between two runs."""


def sample_id(index: int) -> str:
    """`17` is `000017`."""
    return f"{index:06d}"


def sample_folder(root: Path, sample: str) -> Path:
    """Where a sample lies: 1,000 of them to a parent folder."""
    return root / "samples" / f"{int(sample) // SAMPLES_PER_FOLDER:05d}" / sample


@dataclass(frozen=True)
class Manifest:
    """What `dataset.json` says of a data set as a whole.

    Attributes:
        config: the resolved configuration that the samples were made with.
        versions: of the programs that made it.
        counts: of `samples` and, where every sample has as many, of `images`.
        source: where an imported data set comes from; None for one that was rendered.
        schema_version: of the format, and of how scenes follow from the configuration.
    """

    config: DatasetConfig
    versions: Mapping[str, str]
    counts: Mapping[str, int]
    source: Mapping[str, Any] | None = None
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def of(
        cls,
        config: DatasetConfig,
        versions: Mapping[str, str],
        source: Mapping[str, Any] | None = None,
    ) -> "Manifest":
        """The manifest of a data set that is to be made.

        The number of images is left out where it depends on the samples, with intermediate states.
        """
        counts = {"samples": config.num_samples}
        if not config.intermediate:
            counts["images"] = config.num_samples * len(expected_views(config))
        return cls(config, versions, counts, source)

    @classmethod
    def parse(cls, text: str, path: Path) -> "Manifest":
        """Check the text of a `dataset.json`, which is at `path`; older ones get newer keys.

        Raises:
            DataError: it is from a newer version, or not what the schema asks for.
        """
        document = parse_json(text, path)
        refuse_newer(document, path)
        if isinstance(document, dict) and isinstance(document.get("config"), dict):
            document["config"] = merge(OLDER, document["config"])
        check(document, "dataset", path)
        try:
            config = DatasetConfig.parse(document["config"], f"{path}: config")
        except ConfigError as problem:
            raise DataError(str(problem)) from None
        return cls(
            config,
            document["versions"],
            document["counts"],
            document.get("source"),
            document["schema_version"],
        )

    def to_json(self) -> dict[str, Any]:
        """The content of `dataset.json`."""
        return {
            "schema_version": self.schema_version,
            "config": self.config.to_json(),
            "seed": self.config.seed,
            "versions": dict(self.versions),
            "counts": dict(self.counts),
            **({"source": dict(self.source)} if self.source is not None else {}),
        }


OLDER: Mapping[str, Any] = {"render": {"adaptive": 0, "guides": True, "sky": 1.0}}
"""What data sets did before there was a key for it, where that is not the key's default."""


@dataclass(frozen=True)
class Dataset:
    """A data set folder that was opened and whose manifest was checked."""

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, root: str | Path) -> "Dataset":
        """Open an existing folder.

        Raises:
            DataError: it is no data set, or one of a newer schema.
        """
        root = Path(root)
        path = root / "dataset.json"
        if not path.exists() and not path.is_symlink():
            raise DataError(f"{root}: is not a data set (there is no dataset.json in it)")
        return cls(root, Manifest.parse(read_text(path, root=root), path))

    @property
    def config(self) -> DatasetConfig:
        """The resolved configuration that the samples were made with."""
        return self.manifest.config

    @property
    def world(self) -> World:
        """The vocabulary and geometry of this data set."""
        return self.config.world

    def ids(self) -> list[str]:
        """The samples that are there, in order."""
        return list(rendered(self.root))

    def folder(self, sample: str) -> Path:
        """The folder of a sample."""
        return sample_folder(self.root, sample)

    def sample(self, sample: str) -> Sample:
        """Read and check one sample.

        Raises:
            DataError: it is missing or not what the schema asks for.
        """
        return parse_sample(self.text(sample), self.folder(sample) / "sample.json")

    def text(self, sample: str) -> str:
        """The text of a sample's `sample.json`. Raises DataError if it cannot be read."""
        return read_text(self.folder(sample) / "sample.json", root=self.root)

    def picture(self, sample: str, name: str) -> bytes:
        """A picture or mask of a sample as a file. Raises DataError if it cannot be read."""
        return read_bytes(self.folder(sample) / name, root=self.root)

    def samples(self) -> Iterator[Sample]:
        """All samples, one at a time, in order."""
        return (self.sample(i) for i in self.ids())

    def split_names(self) -> list[str]:
        """`scheme/name` of every split that was written."""
        return sorted(f"{p.parent.name}/{p.stem}" for p in (self.root / "splits").glob("*/*.jsonl"))

    def split_file(self, name: str) -> Path:
        """The file of a split."""
        return self.root / "splits" / f"{name}.jsonl"

    def split(self, name: str) -> list[Pair]:
        """The pairs of a split such as `cross-view/train`.

        Raises:
            DataError: there is no such split, or a line of it is wrong.
        """
        return [pair_of(line) for line in self._split_lines(name)]

    def difficulties(self, name: str) -> dict[Pair, float]:
        """The difficulty, from 0 to 1, of those pairs of a split whose line has it.

        Raises:
            DataError: there is no such split, or a line of it is wrong.
        """
        lines = self._split_lines(name)
        return {pair_of(line): line["difficulty"] for line in lines if "difficulty" in line}

    def _split_lines(self, name: str) -> list[Any]:
        path = self.split_file(name)
        if name not in self.split_names():
            known = ", ".join(self.split_names()) or "none; run tvr split first"
            raise DataError(f"{path}: there is no such split (known: {known})")
        return read_jsonl(path, "split", self.root)

    def write_split(
        self, name: str, pairs: Iterable[Pair], difficulties: Mapping[Pair, float] | None = None
    ) -> Path:
        """Write one split file, whole; a pair with a difficulty has it in its line."""
        path = self.split_file(name)
        refuse_links(self.root, path.parent)
        make_folder(path.parent)
        rated = difficulties or {}
        lines = ({**p.to_json(), **({"difficulty": rated[p]} if p in rated else {})} for p in pairs)
        write_whole(path, "".join(map(dumps_line, lines)))
        return path

    def write_scheme(self, scheme: str, document: Mapping[str, Any]) -> Path:
        """Write `scheme.json`, which says how the splits of a scheme were made."""
        path = self.root / "splits" / scheme / "scheme.json"
        refuse_links(self.root, path.parent)
        write_whole(path, dumps(document))
        return path


def refuse_other_config(out: Path, config: DatasetConfig) -> Manifest | None:
    """Make sure that what is in a folder was made with this configuration.

    Returns:
        The manifest that is there.

    Raises:
        ConfigError: it was made with another one, or is something else.
        DataError: the folder's manifest is damaged.
    """
    if not was_begun(out, "dataset.json"):
        return None
    former = Dataset.open(out).manifest
    refuse_other(out, former.config.to_json(), config.to_json(), FREE)
    return former


def pair_of(line: Mapping[str, Any]) -> Pair:
    """The pair that a line of a split is about."""
    return Pair(line["sample"], line["initial"], line["final"])


def read_sample(path: Path) -> Sample:
    """Read and check one `sample.json`.

    Raises:
        DataError: it is missing, from a newer version, or not what the schema asks for.
    """
    return parse_sample(read_text(path), path)


def parse_sample(text: str, path: Path) -> Sample:
    """Check the text of a `sample.json`, which is at `path`. Raises DataError, as `read_sample`."""
    data = parse_json(text, path)
    refuse_newer(data, path)
    check(data, "sample", path)
    for k, image in enumerate(data["images"]):
        if image["camera"] not in data["cameras"]:
            raise DataError(f"{path}: images.{k}.camera: {image['camera']!r} is not in cameras")
    try:
        return Sample.from_json(data)
    except TvrError as problem:
        raise DataError(f"{path}: cameras: {problem}") from None


def refuse_newer(document: Any, path: Path) -> None:
    """Raise DataError for a document that a later version of this project wrote."""
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise DataError(
            f"{path}: schema_version {version} is newer than this program reads "
            f"({SCHEMA_VERSION}); upgrade star-tvr"
        )


def expected_views(config: DatasetConfig) -> set[tuple[str, str]]:
    """(state, camera) of the initial and final images that every sample has.

    >>> from star_tvr.schemas.config import load_config
    >>> sorted(expected_views(load_config("random-view")))
    [('final', 'view-0'), ('final', 'view-1'), ('initial', 'view-0')]
    """
    numbers = count()
    cameras = config.cameras
    initial = [f"view-{next(numbers)}" if n == "random" else n for n in cameras.initial]
    final: list[str] = []
    for name in cameras.final:
        final += {
            "same": initial,
            "orbit": [f"orbit-{k}" for k in range(1, cameras.orbit)],
        }.get(name) or [f"view-{next(numbers)}" if name == "random" else name]
    return {*(("initial", n) for n in initial), *(("final", n) for n in final)}


def rendered(root: Path) -> Iterator[str]:
    """The ids of the samples that exist under `root`, in order."""
    for parent in sorted((root / "samples").glob("[0-9]*")):
        if parent.is_dir():
            try:
                names = os.listdir(parent)
            except OSError as problem:
                raise DataError(f"{parent}: cannot be read ({problem.strerror})") from None
            yield from sorted(n for n in names if is_sample(root, parent / n))


def is_sample(root: Path, path: Path) -> bool:
    """Whether a path is where the sample of this name lies."""
    # Not isdigit(): other scripts have digits, too.
    number = re.fullmatch("[0-9]{6,18}", path.name)
    return number is not None and sample_folder(root, path.name) == path


def commit_sample(root: Path, sample: str, files: Mapping[str, bytes]) -> None:
    """Put a sample's folder in place: all its files, or nothing.

    The files are written and synced under a hidden name first; the rename is the commit. A former
    folder of the sample is moved out of the way for it, and deleted afterwards. Of two that commit
    a sample at the same time, both of which made it from the same plan, one remains.

    Raises:
        DataError: a folder on the way to it is a link.
        OSError: for instance a full disk; nothing of the files remains then, and the former folder
            is back.
    """
    final = sample_folder(root, sample)
    draft, former = (final.parent / f".{sample}.{end}" for end in (writer(), FORMER))
    refuse_links(root, final)
    make_folder(final.parent)
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        for name, content in files.items():
            write_synced(draft / name, content)
        sync_folder(draft)
        if final.exists():
            shutil.rmtree(former, ignore_errors=True)
            final.rename(former)
        draft.rename(final)
        sync_folder(final.parent)
    except BaseException as problem:
        shutil.rmtree(draft, ignore_errors=True)
        _bring_back(final, former)
        taken = isinstance(problem, OSError) and problem.errno in (errno.ENOTEMPTY, errno.EEXIST)
        if not (taken and final.exists()):
            raise
    shutil.rmtree(former, ignore_errors=True)


def remove_drafts(root: Path, samples: Collection[str], pid: int | None = None) -> None:
    """Delete what interrupted writers of these samples left behind; bring back what they moved.

    Args:
        pid: a process of this machine that was the writer; None where nobody else is at work.
    """
    end = "*" if pid is None else writer(pid)
    for sample in samples:
        final = sample_folder(root, sample)
        refuse_links(root, final)
        _bring_back(final, final.parent / f".{sample}.{FORMER}")
        for draft in final.parent.glob(f".{sample}.{end}"):
            shutil.rmtree(draft, ignore_errors=True)


def remove_sample(root: Path, sample: str) -> None:
    """Delete a sample: whoever looks sees all of it, or nothing. Raises OSError."""
    final = sample_folder(root, sample)
    refuse_links(root, final)
    draft = final.parent / f".{sample}.{writer()}"
    shutil.rmtree(draft, ignore_errors=True)
    final.rename(draft)
    shutil.rmtree(draft, ignore_errors=True)


def remove_all_drafts(root: Path) -> None:
    """What `remove_drafts` does, for every sample that something was left behind of."""
    hidden = (path.name[1:].partition(".") for path in (root / "samples").glob("[0-9]*/.*.*"))
    remove_drafts(root, {sample for sample, _, _ in hidden if sample.isdecimal()})


def _bring_back(final: Path, former: Path) -> None:
    if former.exists() and not final.exists():
        former.rename(final)


def dumps(document: Any) -> str:
    """The one JSON form of documents: indented, keys in order of writing, no NaN."""
    return _encodable(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)) + "\n"


def dumps_line(document: Any) -> str:
    """The one form of a line of JSON Lines."""
    return _encodable(json.dumps(document, allow_nan=False, ensure_ascii=False)) + "\n"


def _encodable(text: str) -> str:
    """JSON with what UTF-8 cannot hold, as there is in names of folders, as its code."""
    return text.encode("utf-8", "backslashreplace").decode()

"""An export in parquet as a data set: the folder that it was made from is not needed.

`tvr export --format parquet` keeps the whole `sample.json` in every row and the manifest in every
file. Rows are read from the files where they lie, by their number or in a stream; nothing is
unpacked or copied.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_tvr.extras import require
from star_tvr.scenes.errors import DataError
from star_tvr.schemas.checks import check
from star_tvr.schemas.dataset import Dataset, Manifest
from star_tvr.schemas.records import PAIR_KEYS
from star_tvr.training.parquet_files import open_parquet, read_rows

if TYPE_CHECKING:
    import datasets

MANIFEST = b"star-tvr"
"""The key of the manifest, which is the text of `dataset.json`, in the metadata of a file."""

SAMPLE = "sample_json"
IMAGES = ("initial_image", "final_image")
COLUMNS = (*PAIR_KEYS, "difficulty", *IMAGES, SAMPLE)
"""What is read of an export."""

EVERY_SPLIT = "*"
"""The name of a split that stands for all of them together."""

GROUPS_KEPT = 4
"""Groups of rows, one column of each, that are kept in memory."""


@dataclass(frozen=True)
class ParquetDataset(Dataset):
    """A split of an export, or all of them, which is read like the folder of a data set.

    It holds the pairs of the split, and of their samples the pictures of these pairs alone.

    Attributes:
        name: of the split, as in the export: `cross-view/train`; or `EVERY_SPLIT`.
        files: its files, in order.
        lines: of every row, `sample`, `initial`, `final` and, where it is known, `difficulty`.
        value: the value of a row, given by its number, in one of COLUMNS.
    """

    name: str
    files: Sequence[Path]
    lines: Sequence[Mapping[str, Any]]
    value: Callable[[int, str], Any]

    @classmethod
    def load(cls, root: Path, name: str) -> "ParquetDataset":
        """Open a split; it has no lines if the export has no such split.

        Raises:
            DataError: a file is damaged, or was not made by this version of `tvr export`.
        """
        files = sorted(root.glob("data/*/*.parquet"))
        if not files:
            raise DataError(f"{root}: is not an export in parquet")
        manifest = _manifest(files[0])
        files = [path for path in files if name in (_split_name(path), EVERY_SPLIT)]
        rows = _Rows(files)
        return cls(root, manifest, name, files, rows.lines(), rows.value)

    def __reduce__(self) -> Any:
        # For the worker processes of data loaders, and for hashes of what makes rows.
        return ParquetDataset.load, (self.root, self.name)

    @property
    def has_files(self) -> bool:
        """No: nothing can be added to an export, and its pictures are inside it."""
        return False

    def has(self, sample: str) -> bool:
        """Whether a pair of the split is of this sample."""
        return sample in self._rows_of

    def ids(self) -> list[str]:
        """The samples of the pairs, in order."""
        return list(self._rows_of)

    def split_names(self) -> list[str]:
        """`scheme/name` of every split that was exported."""
        return sorted({_split_name(path) for path in self.root.glob("data/*/*.parquet")})

    def split_file(self, name: str) -> Path:
        """The files of a split, as a pattern."""
        return self.root / "data" / f"{name}-*.parquet"

    def folder(self, sample: str) -> Path:
        """What stands for a sample's folder in messages."""
        return self.split_file(self.name) / sample

    def text(self, sample: str) -> str:
        """`sample.json`. Raises DataError if the split has no such sample."""
        text = self.value(self._places(sample)[0], SAMPLE)
        if not isinstance(text, str):
            raise DataError(f"{self.folder(sample)}: {SAMPLE} is no text; make the export again")
        return text

    def picture(self, sample: str, name: str) -> bytes:
        """An image file of a sample. Raises DataError if no pair of the split shows it."""
        for place in self._places(sample):
            for column in IMAGES:
                match self.value(place, column):
                    case {"path": path, "bytes": bytes(content)} if path == name:
                        return content
        raise DataError(f"{self.folder(sample)}/{name}: no pair of the split shows this image")

    def stream(self) -> "datasets.IterableDataset":
        """The rows in order, with COLUMNS, pictures as they are in their files.

        One group is in memory at a time. What `datasets` and pyarrow's scanner read ahead of a slow
        reader has no limit but the size of the file.
        """
        from datasets import IterableDataset

        return IterableDataset.from_generator(_in_order, gen_kwargs={"files": list(self.files)})

    def only(self, row: Mapping[str, Any]) -> "ParquetDataset":
        """The same split with one row of its stream, which is read without going to the files."""
        return replace(self, lines=[row], value=lambda _, column: row[column])

    def _split_lines(self, name: str) -> list[Any]:
        if self.name == EVERY_SPLIT and name != EVERY_SPLIT:
            return ParquetDataset.load(self.root, name)._split_lines(name)
        if name != self.name or not self.files:
            known = ", ".join(self.split_names())
            raise DataError(f"{self.split_file(name)}: there is no such split (known: {known})")
        return list(self.lines)

    def _places(self, sample: str) -> Sequence[int]:
        if sample not in self._rows_of:
            raise DataError(f"{self.folder(sample)}: there is no such sample in the export")
        return self._rows_of[sample]

    @cached_property
    def _rows_of(self) -> Mapping[str, Sequence[int]]:
        found: dict[str, list[int]] = {}
        for place, line in enumerate(self.lines):
            found.setdefault(line["sample"], []).append(place)
        return found


def is_dataset(root: Path) -> bool:
    """Whether a folder, or what the hub has, is a data set, or an export in parquet."""
    root = local_folder(root)
    return (root / "dataset.json").is_file() or any(root.glob("data/*/*.parquet"))


HUB = "hf:/datasets/"
"""How `hf://datasets/` begins as a path."""


def local_folder(root: Path) -> Path:
    """Where a data set lies: `root`, or a local copy of `hf://datasets/OWNER/NAME[@REVISION]`.

    The copy is `huggingface_hub`'s, in its cache, and is fetched if it is not there or older; with
    HF_HUB_OFFLINE=1 what is there is taken.

    Raises:
        DataError: it is not on the hub, or the hub cannot be reached.
    """
    name = str(root)
    if not name.startswith(HUB) or root.exists():
        return root
    require("a data set of the hub", "huggingface_hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, _, revision = name.removeprefix(HUB).partition("@")
    try:
        return Path(snapshot_download(repository, repo_type="dataset", revision=revision or None))
    except (OSError, HfHubHTTPError, HFValidationError) as problem:
        reason = " ".join(str(problem).split())[:300]
        raise DataError(
            f"hf://datasets/{name.removeprefix(HUB)}: cannot be fetched ({reason})"
        ) from None


def open_dataset(root: Path, split: str = EVERY_SPLIT) -> Dataset:
    """Open the folder of a data set, or a split of an export in parquet, or all of an export.

    Args:
        root: the folder, or `hf://datasets/OWNER/NAME` for one on the Hugging Face hub.
        split: what of an export; a folder is opened whole.

    Raises:
        DataError: it is neither, or what is there is damaged or too new.
    """
    root = local_folder(root)
    if any(root.glob("data/*/*.parquet")) and not (root / "dataset.json").is_file():
        return ParquetDataset.load(root, split)
    return Dataset.open(root)


class _Rows:
    """The rows of some parquet files by their number, read a group at a time."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.groups: list[tuple[Path, Any, int]] = []
        """Of every group: its file, the file's metadata, its number in the file."""
        self.starts = [0]
        """The number of every group's first row, and at the end that of all rows."""
        for path in files:
            with _open(path) as file:
                metadata = file.metadata
            missing = set(COLUMNS) - set(metadata.schema.to_arrow_schema().names)
            if missing:
                raise _outdated(path, f"has no column {min(missing)}")
            for number in range(metadata.num_row_groups):
                self.groups.append((path, metadata, number))
                self.starts.append(self.starts[-1] + metadata.row_group(number).num_rows)
        self.column = lru_cache(GROUPS_KEPT)(self._column)

    def lines(self) -> list[dict[str, Any]]:
        """The names of the pair in every row, and its difficulty where there is one."""
        columns = [*PAIR_KEYS, "difficulty"]
        found = []
        for path in dict.fromkeys(path for path, *_ in self.groups):
            with _open(path) as file:
                rows = enumerate(read_rows(file, columns))
                found += [_pair_line(row, f"{path}, row {number}") for number, row in rows]
        return found

    def value(self, place: int, column: str) -> Any:
        """One value. Raises DataError if the file cannot be read."""
        group = bisect_right(self.starts, place) - 1
        return self.column(group, column)[place - self.starts[group]].as_py()

    def table(self, group: int, columns: Sequence[str]) -> Any:
        """A group as a table of pyarrow. Raises DataError if the file cannot be read."""
        path, metadata, number = self.groups[group]
        with _open(path, metadata) as file:
            return file.read_row_group(number, list(columns))

    def _column(self, group: int, column: str) -> Any:
        return self.table(group, [column])[column]


def _pair_line(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    line = {key: value for key, value in row.items() if value is not None}
    check(line, "split", where)
    return line


def _in_order(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    rows = _Rows(files)
    for group in range(len(rows.groups)):
        yield from rows.table(group, COLUMNS).to_pylist()


def _manifest(path: Path) -> Manifest:
    with _open(path) as file:
        text = (file.schema_arrow.metadata or {}).get(MANIFEST)
    if text is None:
        raise _outdated(path, "does not say what data set it is from")
    return Manifest.parse(text.decode("utf-8", "replace"), path)


@contextmanager
def _open(path: Path, metadata: Any = None) -> Iterator[Any]:
    """As `open_parquet`, whose errors get a cure."""
    try:
        with open_parquet(path, metadata) as file:
            yield file
    except DataError as problem:
        raise DataError(f"{problem}; make the export again") from None


def _outdated(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: {what}; make the export again with this version, in the format parquet"
    )


def _split_name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem.rpartition('-')[0]}"

"""TRANCE's files in the forms in which they come, one class a form.

Three forms are read: `data.h5`, where a split is a group of samples and images; `data.jsonl` beside
`image/`, as it was published; and `info/*.json` beside `image/`, as the generator writes it.
Nothing in a file is trusted: documents are checked against `trance.schema.json`, image names are
names, and links are not followed.
"""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL.Image

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.checks import check, parse_json
from star_tvr.schemas.files import LONGEST, open_file, read_bytes, read_text
from star_tvr.schemas.pictures import LARGEST, check_kind, decode_png


@dataclass(frozen=True)
class RawSample:
    """One sample as it lies in the source, not yet read.

    Attributes:
        where: for errors.
        split: the split it is in, if the form has splits.
        text: reads its JSON; raises DataError.
    """

    where: str
    split: str | None
    text: Callable[[], str]


def read_document(raw: RawSample) -> dict[str, Any]:
    """The document of a sample.

    Raises:
        DataError: it is no sample of TRANCE.
    """
    document: dict[str, Any] = parse_json(raw.text(), raw.where)
    check(document, "trance", raw.where)
    document["idx"] = int(document["idx"])  # to JSON Schema, 1.0 is an integer
    for step in document["transformations"]:
        step["obj_idx"] = int(step["obj_idx"])
    return document


class TranceSource(Protocol):
    """Files of TRANCE in one of their forms."""

    form: str
    root: Path

    def count(self) -> int:
        """How many samples there are."""

    def samples(self) -> Iterator[RawSample]:
        """All of them, in order."""

    def image(
        self, split: str | None, name: str, size: tuple[int, int] | None = None
    ) -> PIL.Image.Image:
        """An image by its name.

        Args:
            size: width and height that it must have; by default any up to `LARGEST`.

        Raises:
            DataError: it is missing, damaged, elsewhere, or of another size. Nothing is decoded
                before the size is known.
        """


def open_source(src: Path) -> TranceSource:
    """Recognise the form of a folder, or of a `data.h5` or `data.jsonl` that is named itself.

    Raises:
        DataError: it is none of them.
    """
    if src.is_file():
        return Hdf5Source(src) if src.suffix in (".h5", ".hdf5") else JsonLinesSource(src)
    if (src / "data.h5").is_file():
        return Hdf5Source(src / "data.h5")
    if (src / "data.jsonl").is_file():
        return JsonLinesSource(src / "data.jsonl")
    if any(src.glob("info/*.json")):
        return JsonFilesSource(src)
    raise DataError(f"{src}: is no TRANCE (there is no data.h5, data.jsonl or info/*.json in it)")


class ImageFolder:
    """The folder `image/` beside the documents."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(
        self, split: str | None, name: str, size: tuple[int, int] | None = None
    ) -> PIL.Image.Image:
        """See `TranceSource`."""
        path = self.root / "image" / name
        return decode_png(read_bytes(path, root=self.root), path, size=size)


class JsonLinesSource(ImageFolder):
    """`data.jsonl`, one sample a line."""

    form = "jsonl"

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent)
        self.path = path

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        try:
            with open_file(self.path) as file:
                lines = iter(lambda: file.readline(LONGEST), b"")
                yield from ((n, line) for n, line in enumerate(lines, start=1) if line.strip())
        except OSError as problem:
            raise DataError(f"{self.path}: cannot be read ({problem.strerror})") from None

    def count(self) -> int:
        """See `TranceSource`."""
        return sum(1 for _ in self._lines())

    def samples(self) -> Iterator[RawSample]:
        """See `TranceSource`."""
        for number, line in self._lines():
            where = f"{self.path}, line {number}"
            yield RawSample(where, None, partial(_text, line, where))


class JsonFilesSource(ImageFolder):
    """`info/*.json`, one sample a file."""

    form = "json"

    def _paths(self) -> list[Path]:
        return sorted((self.root / "info").glob("*.json"))

    def count(self) -> int:
        """See `TranceSource`."""
        return len(self._paths())

    def samples(self) -> Iterator[RawSample]:
        """See `TranceSource`."""
        for path in self._paths():
            yield RawSample(str(path), None, partial(read_text, path, root=self.root))


class Hdf5Source:
    """`data.h5`."""

    form = "hdf5"

    def __init__(self, path: Path) -> None:
        import h5py

        self.path, self.root = path, path.parent
        with self._reading("as HDF5"):
            self.file = h5py.File(path, "r")
            self.splits = list(self.file)
            names = {split: list(self._group(split, "data")) for split in self.splits}
        for split in self.splits:
            if not re.fullmatch("[a-z][a-z0-9_-]*", split):
                raise DataError(f"{path}: {split!r} is no name for a split")
        self.names = {s: sorted(n, key=lambda k: (len(k), k)) for s, n in names.items()}

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Around calls of h5py, which raises any of these where a file is damaged."""
        try:
            yield
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as problem:
            reason = " ".join(str(problem).split())
            raise DataError(f"{self.path}: cannot be read {what} ({reason})") from None

    def _get(self, group: Any, name: str, where: str) -> Any:
        """A member that is really in this file: links out of it are refused."""
        import h5py

        with self._reading(where):
            # Not `name in group`, which follows links.
            if not isinstance(group, h5py.Group) or not group.id.links.exists(name.encode()):
                raise DataError(f"{self.path}: there is no {where}")
            if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
                raise DataError(f"{self.path}: {where} is a link, which could lead anywhere")
            return group[name]

    def _group(self, split: str, kind: str) -> Any:
        import h5py

        where = f"{split}/{kind}"
        group = self._get(self._get(self.file, split, split), kind, where)
        if not isinstance(group, h5py.Group):
            raise DataError(f"{self.path}: {where} is a dataset, and should be a group")
        return group

    def count(self) -> int:
        """See `TranceSource`."""
        return sum(len(names) for names in self.names.values())

    def samples(self) -> Iterator[RawSample]:
        """See `TranceSource`."""
        for split, names in self.names.items():
            for name in names:
                where = f"{self.path}: {split}/data/{name}"
                yield RawSample(where, split, partial(self._text, split, name))

    def _text(self, split: str, name: str) -> str:
        where = f"{split}/data/{name}"
        node = self._dataset(self._get(self._group(split, "data"), name, where), where)
        if node.shape != () or node.dtype.kind not in "OS" or node.dtype.itemsize > LONGEST:
            raise DataError(f"{self.path}: {where} is no text")
        if node.dtype.kind == "O" and not self._is_heap_whole(node):
            raise DataError(f"{self.path}: {where} is damaged (its heap has no end)")
        with self._reading(where):
            content = node[()]
        if not isinstance(content, bytes):
            raise DataError(f"{self.path}: {where} is no text")
        return _text(content, f"{self.path}: {where}")

    def _is_heap_whole(self, node: Any) -> bool:
        """Whether the objects of the global heap that holds a text fill it, one after the other.

        HDF5 goes round for ever at one that takes no room, and cannot be interrupted.
        """
        base, place = self.file.userblock_size, node.id.get_offset()
        if place is None or self.file.id.get_create_plist().get_sizes() != (8, 8):
            return False
        try:
            with open_file(self.path) as file:
                file.seek(place + 4)
                heap = base + int.from_bytes(file.read(8), "little")
                file.seek(heap + 8)
                heap_size = int.from_bytes(file.read(8), "little")
                objects = file.read(heap_size - 16 if heap_size <= LONGEST else 0)
        except (OSError, ValueError):  # there is no such place
            return False
        at = 0
        while at + 16 <= len(objects):
            number, length = struct.unpack_from("<H6xQ", objects, at)
            room = 16 + -(-length // 8) * 8 if number else length  # 0 is what is free
            if not room:
                return False
            at += room
        return 0 < at <= len(objects) == heap_size - 16

    def image(
        self, split: str | None, name: str, size: tuple[int, int] | None = None
    ) -> PIL.Image.Image:
        """See `TranceSource`."""
        where = f"{split}/image/{name}"
        node = self._dataset(self._get(self._group(split or "", "image"), name, where), where)
        shape: tuple[int, ...] = node.shape or ()
        if not (node.dtype == np.uint8 and len(shape) == 3 and shape[2] in (3, 4) and all(shape)):
            raise DataError(f"{self.path}: {where} is no image (height, width, 3 or 4) of bytes")
        check_kind(f"{self.path}: {where}", "RGB", (shape[1], shape[0]), wanted_size=size)
        with self._reading(where):
            return PIL.Image.fromarray(node[()][..., :3])

    def _dataset(self, node: Any, where: str) -> Any:
        """A dataset whose content is in this file, in pieces of no more than is there."""
        import h5py

        if not isinstance(node, h5py.Dataset):
            raise DataError(f"{self.path}: {where} is a group, and should be a dataset")
        with self._reading(where):
            if node.external or node.is_virtual:
                raise DataError(f"{self.path}: {where} is in another file; copy it into this one")
            if prod(node.chunks or ()) > 4 * LARGEST**2:
                raise DataError(f"{self.path}: {where} is in pieces that are too large")
        return node


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as problem:
        raise DataError(f"{where}: is not UTF-8 ({problem})") from None

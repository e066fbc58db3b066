"""The files of TRANCE, for its own loaders: `data.h5`, and `data.jsonl` beside `image/`.

Source: the loader and the preprocessing of TRANCE's published code. In `data.h5` every split is a
group with `data/<idx>` (JSON), `image/<name>` (height, width, 3), `keys` and `basic_keys`.
"""

import io
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from star_tvr.scenes.errors import ConfigError, ParameterError
from star_tvr.schemas.dataset import Dataset, dumps, dumps_line
from star_tvr.schemas.pictures import decode_png
from star_tvr.schemas.trance import image_name, properties, sample_document, values
from star_tvr.training.exports.items import ExportItem, ExportSplit, items, picture

ENDS = ("initial", "final")


class Hdf5File(io.RawIOBase):
    """A file for HDF5 to write to, whose library crashes when it cannot: it never hears of it.

    Attributes:
        problem: why something could not be written, if so; what comes after it is lost.
    """

    def __init__(self, path: Path) -> None:
        self.problem: OSError | None = None
        self._file = open(path, "w+b", buffering=0)

    def write(self, content: Any) -> int:
        """Write all of the content where the file stands."""
        rest = memoryview(content).cast("B")
        end = self._file.tell() + len(rest)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as problem:
            self.problem = self.problem or problem
            self._file.seek(end)
        return memoryview(content).nbytes

    def readinto(self, buffer: Any) -> int:
        """Read as much as the buffer takes; what was lost is zeros."""
        whole = memoryview(buffer).cast("B")
        count = self._file.readinto(whole)
        whole[count:] = bytes(len(whole) - count)
        return len(whole)

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        try:
            return self._file.truncate(size)
        except OSError as problem:
            self.problem = self.problem or problem
            return size or 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the file stands."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def check(self) -> None:
        """Raise OSError if something could not be written."""
        if self.problem is not None:
            raise self.problem


def write(
    dataset: Dataset, parts: Sequence[ExportSplit], folder: Path
) -> Generator[ExportItem, None, dict[str, dict[str, str]]]:
    """Write all files of TRANCE; a writer of `export_dataset.FORMATS`.

    A sample is there once, with all its views, in the split of the first pair that has it; test
    splits together are TRANCE's `test`.

    Raises:
        ConfigError: the splits are of several schemes, or there are no views from the center, from
            which TRANCE's loaders expect the first and one of the last images.
    """
    import h5py

    schemes = sorted({part.scheme for part in parts})
    if len(schemes) > 1:
        raise ParameterError(
            "splits",
            f"TRANCE knows one scheme, and {dataset.root} has splits of {', '.join(schemes)}; name "
            "those of one",
        )
    cameras = dataset.config.cameras
    if cameras.initial != ("center",) or "center" not in cameras.final:
        raise ConfigError(
            f"{dataset.root}: TRANCE's loaders need views from camera center, at the start only "
            "from there; render with the preset star, trance, basic or event"
        )
    (folder / "properties.json").write_text(dumps(properties(dataset.world)), encoding="utf-8")
    (folder / "values.json").write_text(dumps(values(dataset.world)), encoding="utf-8")
    (folder / "image").mkdir()
    with (
        closing(Hdf5File(folder / "data.h5")) as target,
        h5py.File(target, "w", libver="latest") as file,
        (folder / "data.jsonl").open("w", encoding="utf-8") as lines,
    ):
        listed: dict[str, tuple[list[str], list[str]]] = {}
        for part in parts:
            name = "test" if part.name.startswith("test") else part.name
            data, images = (file.require_group(f"{name}/{kind}") for kind in ("data", "image"))
            keys, basic = listed.setdefault(name, ([], []))
            for item in items(dataset, part):
                key = str(int(item.sample.id))
                first = image_name(item.sample.id, "initial", "center")
                if not (folder / "image" / first).exists():
                    document = sample_document(item.sample, dataset.world)
                    lines.write(dumps_line(document))
                    data.create_dataset(key, data=dumps_line(document).rstrip())
                    keys.append(key)
                    if len(document["transformations"]) == 1:
                        basic.append(key)
                    for image in item.sample.images:
                        if image.state in ENDS:
                            content = picture(dataset, item.sample, image)
                            name = image_name(item.sample.id, image.state, image.camera)
                            (folder / "image" / name).write_bytes(content)
                            pixels = np.asarray(decode_png(content, name))
                            images.create_dataset(name, data=pixels, compression="gzip")
                            target.check()
                yield item
        for name, (keys, basic) in listed.items():
            file[name].create_dataset("keys", data=str(keys))
            file[name].create_dataset("basic_keys", data=str(basic))
    target.check()
    return {}

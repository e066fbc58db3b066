"""Tar files for the `webdataset` library: a sample is all files that share a name before the dot.

Source: https://github.com/webdataset/webdataset, "The WebDataset Format".
"""

import io
import json
import tarfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path

from star_tvr.schemas.dataset import Dataset
from star_tvr.training.config import PromptConfig
from star_tvr.training.exports.items import ExportItem, ExportSplit, items, mask, picture, record

ITEMS_PER_SHARD = 1_000


def write(
    dataset: Dataset, parts: Sequence[ExportSplit], folder: Path
) -> Generator[ExportItem, None, dict[str, dict[str, str]]]:
    """Write `<scheme>/<split>-<number>.tar`; a writer of `export_dataset.FORMATS`."""
    configs: dict[str, dict[str, str]] = {}
    for part in parts:
        split = part.name.replace("-", "_")
        configs.setdefault(part.scheme, {})[split] = f"{part.scheme}/{part.name}-*.tar"
        place = folder / part.scheme
        place.mkdir(exist_ok=True)
        with ExitStack() as stack:
            tar = stack.enter_context(_open(place / f"{part.name}-000000.tar"))
            for number, item in enumerate(items(dataset, part)):
                if number and number % ITEMS_PER_SHARD == 0:
                    stack.close()
                    shard = f"{part.name}-{number // ITEMS_PER_SHARD:06d}.tar"
                    tar = stack.enter_context(_open(place / shard))
                for name, content in files(dataset, item).items():
                    header = tarfile.TarInfo(name)  # no time, no owner: the same bytes every time
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))
                yield item
    return configs


def _open(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)


def files(dataset: Dataset, item: ExportItem) -> dict[str, bytes]:
    """The files of one pair: `<key>.initial.png`, `.final.png`, their masks, and `.json`.

    Raises:
        DataError: an image or a mask is missing or damaged.
    """
    key = f"{item.pair.sample}-{item.pair.initial}-{item.pair.final}"
    found = {}
    for state in ("initial", "final"):
        image = item.image(state)
        found[f"{key}.{state}.png"] = picture(dataset, item.sample, image)
        labels = mask(dataset, item.sample, image)
        if labels is not None:
            found[f"{key}.{state}_mask.png"] = labels
    document = record(dataset, item, PromptConfig())
    found[f"{key}.json"] = json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    return found

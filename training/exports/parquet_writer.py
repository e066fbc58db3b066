"""Parquet files for `datasets.load_dataset`: one configuration a scheme, both images in a row.

Source: https://huggingface.co/docs/hub/datasets-manual-configuration. The `datasets` library finds
the features, which say that bytes are images, in the files.
"""

import json
import re
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any

from star_tvr.schemas.dataset import Dataset, dumps_line
from star_tvr.training.config import PromptConfig
from star_tvr.training.exports.items import ExportItem, ExportSplit, items, mask, picture, record
from star_tvr.training.parquet_dataset import MANIFEST, SAMPLE

ROWS_PER_GROUP = 25
"""Rows in memory at a time, and the least that a reader has to read."""

ROWS_PER_FILE = 5_000


def write(
    dataset: Dataset, parts: Sequence[ExportSplit], folder: Path
) -> Generator[ExportItem, None, dict[str, dict[str, str]]]:
    """Write `data/<scheme>/<split>-<number>.parquet`; a writer of `export_dataset.FORMATS`."""
    import pyarrow
    import pyarrow.parquet

    schema = features().arrow_schema
    manifest = json.dumps(dataset.manifest.to_json(), allow_nan=False, ensure_ascii=False)
    schema = schema.with_metadata({**schema.metadata, MANIFEST: manifest})
    configs: dict[str, dict[str, str]] = {}
    for part in parts:
        split = re.sub(r"\W", "_", part.name)
        configs.setdefault(part.scheme, {})[split] = f"data/{part.scheme}/{split}-*.parquet"
        place = folder / "data" / part.scheme
        place.mkdir(parents=True, exist_ok=True)
        rest = items(dataset, part)
        with ExitStack() as stack:
            for number in count():
                group = list(islice(rest, ROWS_PER_GROUP))
                if not group and number:
                    break
                if number % (ROWS_PER_FILE // ROWS_PER_GROUP) == 0:
                    stack.close()
                    path = place / f"{split}-{number * ROWS_PER_GROUP // ROWS_PER_FILE:05d}.parquet"
                    # pyarrow itself opens no path that is not UTF-8.
                    file = stack.enter_context(path.open("wb"))
                    writer = stack.enter_context(pyarrow.parquet.ParquetWriter(file, schema))
                rows = [row(dataset, item) for item in group]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
                yield from group
    return configs


def row(dataset: Dataset, item: ExportItem) -> dict[str, Any]:
    """One row, with the columns of `features`.

    Raises:
        DataError: an image or a mask is missing or damaged.
    """
    pictures: dict[str, Any] = {}
    for state in ("initial", "final"):
        image = item.image(state)
        content = picture(dataset, item.sample, image)
        pictures[f"{state}_image"] = {"bytes": content, "path": image.path}
        labels = mask(dataset, item.sample, image)
        pictures[f"{state}_mask"] = labels and {"bytes": labels, "path": image.mask}
    document = dumps_line(item.sample.to_json(dataset.world)).rstrip()
    return {**pictures, **record(dataset, item, PromptConfig()), SAMPLE: document}


def features() -> Any:
    """The columns, as `datasets.Features`. Masks are null where the data set has none."""
    from datasets import Features, Image, List, Value

    words = {k: Value("string") for k in ("shape", "size", "color", "material")}
    objects = List(
        {
            "index": Value("int32"),
            **words,
            "position": List(Value("float64")),
            "rotation": Value("float64"),
            "visible": Value("bool"),
        }
    )
    change = {
        "object": Value("int32"),
        "attribute": Value("string"),
        "value": Value("string"),
        "equivalents": List(Value("string")),
    }
    return Features(
        {
            "sample": Value("string"),
            "initial": Value("string"),
            "final": Value("string"),
            "difficulty": Value("float64"),
            "initial_image": Image(),
            "final_image": Image(),
            "initial_mask": Image(),
            "final_mask": Image(),
            "prompt": List({"role": Value("string"), "content": Value("string")}),
            "answer": Value("string"),
            "truth": Value("string"),
            "transformations": List(change),
            "initial_objects": objects,
            "final_objects": objects,
            SAMPLE: Value("string"),
        }
    )

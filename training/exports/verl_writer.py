"""Parquet files for verl: one a split, with the columns that its RLHFDataset reads.

Source: verl 0.9, `verl/utils/dataset/rl_dataset.py` and `docs/preparation/prepare_data.rst`.
"""

from collections.abc import Generator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from star_tvr.schemas.dataset import Dataset
from star_tvr.training.config import PromptConfig
from star_tvr.training.exports.items import ExportItem, ExportSplit, items, picture, record

DATA_SOURCE = "star-tvr"
ABILITY = "spatial-reasoning"
ROWS_PER_GROUP = 25


def write(
    dataset: Dataset, parts: Sequence[ExportSplit], folder: Path
) -> Generator[ExportItem, None, dict[str, dict[str, str]]]:
    """Write `<scheme>/<split>.parquet`; a writer of `export_dataset.FORMATS`."""
    import pyarrow
    import pyarrow.parquet

    schema = features().arrow_schema
    configs: dict[str, dict[str, str]] = {}
    for part in parts:
        split = part.name.replace("-", "_")
        configs.setdefault(part.scheme, {})[split] = f"{part.scheme}/{part.name}.parquet"
        (folder / part.scheme).mkdir(exist_ok=True)
        rest = enumerate(items(dataset, part))
        with (
            (folder / part.scheme / f"{part.name}.parquet").open("wb") as file,
            pyarrow.parquet.ParquetWriter(file, schema) as writer,
        ):
            while group := list(islice(rest, ROWS_PER_GROUP)):
                rows = [row(dataset, item, part, index) for index, item in group]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
                yield from (item for _, item in group)
    return configs


def row(dataset: Dataset, item: ExportItem, part: ExportSplit, index: int) -> dict[str, Any]:
    """One row, with the columns of `features`. Raises DataError for a damaged picture."""
    known = record(dataset, item, PromptConfig())
    shown = [item.image(state) for state in ("initial", "final")]
    return {
        "data_source": DATA_SOURCE,
        "prompt": known["prompt"],
        "images": [{"bytes": picture(dataset, item.sample, i), "path": i.path} for i in shown],
        "ability": ABILITY,
        "reward_model": {"style": "rule", "ground_truth": known["truth"]},
        "extra_info": {"split": f"{part.scheme}/{part.name}", "index": index}
        | {key: known[key] for key in ("sample", "initial", "final")},
    }


def features() -> Any:
    """The columns, as `datasets.Features`."""
    from datasets import Features, Image, List, Value

    text = Value("string")
    return Features(
        {
            "data_source": text,
            "prompt": List({"role": text, "content": text}),
            "images": List(Image()),
            "ability": text,
            "reward_model": {"style": text, "ground_truth": text},
            "extra_info": {
                "split": text,
                "index": Value("int64"),
                "sample": text,
                "initial": text,
                "final": text,
            },
        }
    )

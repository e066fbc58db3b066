"""All rows of a run, in the order in which the trainer goes through them.

Which question comes when is planned ahead for a whole run: a table of names, some tens of bytes a
row.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from star_tvr.scenes.seeds import derive
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import PAIR_KEYS, Pair
from star_tvr.training.config import TrainConfig
from star_tvr.training.fresh_dataset import FreshDataset
from star_tvr.training.pairs import choose_pairs, difficulties, epoch_order
from star_tvr.training.parquet_dataset import ParquetDataset
from star_tvr.training.rows import RowReader, row_reader
from star_tvr.training.scene_facts import Size

if TYPE_CHECKING:
    import datasets
    from transformers import TrainingArguments

BUFFER = 200
"""Rows of a stream among which the next one is drawn; their files are kept in memory."""


def training_rows(
    config: TrainConfig, dataset: Dataset, args: "TrainingArguments", seen: Size | None = None
) -> "datasets.Dataset | datasets.IterableDataset":
    """All rows of a run, in order: what the trainer goes through once.

    It is a `datasets.Dataset`, or an `IterableDataset` with `rows.streaming`. `args` is told so:
    its epochs become one, however many are in the rows. `seen` is the size to which the model's
    processor scales images, see `RowReader`.

    Raises:
        ConfigError, DataError: the split lacks what the configuration asks for.
    """
    pairs = choose_pairs(dataset, config.split, config.rows.views)
    count = count_rows(args, len(pairs))
    args.num_train_epochs = 1
    if isinstance(dataset, FreshDataset):
        return build_rows(row_reader(config, dataset, seen), pairs, "stored", count)
    if config.rows.streaming:
        return stream_rows(row_reader(config, dataset, seen), count)
    easy_first = config.rows.order == "easy-first"
    return build_rows(
        row_reader(config, dataset, seen),
        pairs,
        config.rows.order,
        count,
        difficulties(dataset, config.split, pairs) if easy_first else (),
        together=config.reward.extra.consistency > 0,
    )


def count_rows(args: Any, pairs: int) -> int:
    """How many questions a run asks.

    Args:
        args: TRL's configuration.
        pairs: how many there are in an epoch.
    """
    batch, steps = batch_rows(args)
    if args.max_steps > 0:
        return math.ceil(args.max_steps / steps) * batch
    wanted = math.ceil(args.num_train_epochs * pairs)
    return math.ceil(wanted / batch) * batch if hasattr(args, "num_generations") else wanted


def batch_rows(args: Any) -> tuple[int, float]:
    """How many questions are asked at once, and how many steps they serve, of all processes."""
    if hasattr(args, "num_generations"):  # GRPO: a batch of questions serves several steps
        batch = args.generation_batch_size // args.num_generations
        steps = args.steps_per_generation * args.num_iterations / args.gradient_accumulation_steps
        return batch, steps
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size, 1


def build_rows(
    reader: RowReader,
    pairs: Sequence[Pair],
    order: str = "stored",
    count: int | None = None,
    hardness: Sequence[float] = (),
    together: bool = False,
) -> "datasets.Dataset":
    """The rows of a run, in the order in which it uses them, for TRL's trainers.

    Each row has the columns that `RowReader.row` describes.

    Args:
        reader: makes a row when it is used.
        pairs: of one epoch.
        order: see `RowsConfig`.
        count: how many rows; None is one epoch. After each epoch the next one begins, so the
            first rows of a longer run are those of a shorter one.
        hardness: of every pair, for `easy-first`.
        together: keep the pairs of one sample next to each other.
    """
    import datasets
    import pyarrow

    once = pyarrow.table({k: [getattr(p, k) for p in pairs] for k in PAIR_KEYS})
    parts = []
    for epoch in range(math.ceil((len(pairs) if count is None else count) / len(pairs))):
        places = epoch_order(pairs, order, reader.seed, epoch, hardness, together)
        numbers = pyarrow.array(np.full(len(pairs), epoch))
        parts.append(once.take(pyarrow.array(places)).append_column("epoch", numbers))
    table = pyarrow.concat_tables(parts).slice(0, count)
    return datasets.Dataset(table).with_transform(reader)


def stream_rows(reader: RowReader, count: int) -> "datasets.IterableDataset":
    """The rows of a run as a stream, for TRL's trainers; each is as `RowReader.row` makes it.

    Args:
        reader: of an export; what it makes of a row depends on the row and the epoch alone.
        count: how many rows; after each epoch the next one begins.
    """
    import datasets

    arguments = {"reader": reader, "count": count}
    return datasets.IterableDataset.from_generator(_streamed, gen_kwargs=arguments)


def _streamed(reader: RowReader, count: int) -> Iterator[dict[str, Any]]:
    export = reader.dataset
    assert isinstance(export, ParquetDataset)
    source = export.stream()
    for epoch in range(math.ceil(count / len(export.lines))):
        rows = source
        if reader.rows.order == "random":
            seed = derive(reader.seed, "order", epoch) % 2**32
            # One file at a time: several are read by threads, whose end takes seconds.
            rows = source.shuffle(seed, buffer_size=BUFFER, max_buffer_input_shards=1)
        for row in islice(rows, count - epoch * len(export.lines)):
            alone = replace(reader, dataset=export.only(row))
            yield alone.row(Pair(*(row[key] for key in PAIR_KEYS)), epoch)

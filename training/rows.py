"""From a data set and a split to the rows a trainer reads, made one at a time when asked for.

Which question comes when is planned ahead for a whole run: a table of names, some tens of bytes a
row. `sample.json` is read and the two images are decoded when a row is used, so memory does not
grow with the pictures.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.scenes.seeds import derive, stream
from star_tvr.scenes.transformations import answer_text
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import PAIR_KEYS, Pair, Sample
from star_tvr.training.augment import mirror, renumber, reverse
from star_tvr.training.exported import Exported
from star_tvr.training.prompts import PromptConfig, answer_completion, build_prompt
from star_tvr.training.scene_facts import Facts, facts_of
from star_tvr.training.traces import TraceConfig, write_trace

if TYPE_CHECKING:
    import datasets

BUFFER = 200
"""Rows of a stream among which the next one is drawn; their files are kept in memory."""


@dataclass(frozen=True)
class RowsConfig:
    """Which questions are asked, and when. The `rows` block of a training configuration.

    Attributes:
        views: `split` takes the split's own pairs; `all` every pair of an initial and a final
            camera that the samples of the split have; `same` those of all that show one view
            twice, and `cross` those that do not.
        order: `random`, anew in every epoch; `easy-first`, by difficulty, in random order among
            equals; `stored`, as in the split.
        shuffle_objects: number the objects of every sample anew in every epoch, so that an index
            says nothing about an object. Question, truth and reasoning agree on the numbers.
        mirror: show half of the samples of every epoch as in a mirror.
        reverse: ask about half of the samples of every epoch with time reversed.
        streaming: read an export from its beginning to its end in every epoch. A random order then
            draws among the next 200 rows, and the files in random order.
    """

    views: Literal["split", "same", "cross", "all"] = "split"
    order: Literal["random", "easy-first", "stored"] = "random"
    shuffle_objects: bool = False
    mirror: bool = False
    reverse: bool = False
    streaming: bool = False


class Asked(NamedTuple):
    """A pair as one epoch asks about it.

    Attributes:
        sample: numbered, mirrored and reversed as the epoch has it.
        pair: of the sample's images.
        mirrored: whether its pictures are flipped from left to right.
    """

    sample: Sample
    pair: Pair
    mirrored: bool


@dataclass(frozen=True)
class RowReader:
    """Turns a batch of planned lines into rows; the transform of a `datasets.Dataset`.

    Attributes:
        dataset: the open data set.
        prompt: the wording of the questions.
        completion: what the column `completion` teaches; None for reinforcement learning.
        rows: how samples are varied from epoch to epoch.
        seed: of those variations and of the wording of reasoning.
        pictures: pairs whose pictures are shown instead of a pair's own; see `exchanged`.
    """

    dataset: Dataset
    prompt: PromptConfig
    completion: TraceConfig | None = None
    rows: RowsConfig = RowsConfig()
    seed: int = 0
    pictures: Mapping[Pair, Pair] = field(default_factory=dict)

    def asked(self, pair: Pair, epoch: int = 0) -> Asked:
        """A pair as this epoch asks about it.

        Raises:
            DataError: the sample is missing or not what the schema asks for.
            ConfigError: the world has no direction that a mirrored or reversed move would take.
        """
        sample = self.dataset.sample(pair.sample)
        world, rows = self.dataset.world, self.rows
        if rows.shuffle_objects:
            order = stream(self.seed, "objects", pair.sample, epoch)
            sample = renumber(sample, order.permutation(len(sample.plan.initial)).tolist())
        coins = stream(self.seed, "augment", pair.sample, epoch).random(2) < 0.5
        mirrored, reversed_ = rows.mirror and bool(coins[0]), rows.reverse and bool(coins[1])
        if mirrored:
            sample = mirror(sample, world)
        if reversed_:
            sample = reverse(sample, world)
            pair = Pair(pair.sample, pair.final, pair.initial)
        return Asked(sample, pair, mirrored)

    def facts(self, pair: Pair, epoch: int = 0) -> Facts:
        """What is true of a pair as this epoch asks about it. Raises DataError."""
        sample, pair, _ = self.asked(pair, epoch)
        for state, camera in (("initial", pair.initial), ("final", pair.final)):
            image_path(self.dataset, sample, state, camera)
        return facts_of(sample, pair, self.dataset.world, self.dataset.config)

    def row(self, pair: Pair, epoch: int = 0) -> dict[str, Any]:
        """One row: prompt, images, truth, sample, initial, final, epoch and perhaps completion.

        `images` holds two RGB pictures, the initial one first; `truth` is the answer text.

        Raises:
            DataError: a file of the sample is missing, unreadable or lacks an image of the pair.
        """
        stored = pair
        sample, pair, mirrored = self.asked(pair, epoch)
        world, config = self.dataset.world, self.dataset.config
        shown, views = sample, pair
        if stored in self.pictures:
            views = self.pictures[stored]
            shown = self.dataset.sample(views.sample)
        images = [
            open_image(self.dataset, shown, state, camera)
            for state, camera in (("initial", views.initial), ("final", views.final))
        ]
        row: dict[str, Any] = {
            "images": [ImageOps.mirror(image) for image in images] if mirrored else images,
            "prompt": build_prompt(sample, pair, world, config, self.prompt),
            "truth": answer_text(sample.plan.transformations),
            **stored.to_json(),
            "epoch": epoch,
        }
        if self.completion is not None:
            thought = ""
            if self.completion.style != "answer":
                facts = facts_of(sample, pair, world, config)
                keys = (stored.sample, stored.initial, stored.final, epoch)
                thought = write_trace(facts, self.completion, self.seed, *keys)
            row["completion"] = answer_completion(row["truth"], thought)
        return row

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The rows of a batch of planned lines, as columns. Repeated lines share one row."""
        lines = list(zip(*(batch[k] for k in (*PAIR_KEYS, "epoch")), strict=True))
        rows = {line: self.row(Pair(*line[:3]), line[3]) for line in dict.fromkeys(lines)}
        keys = rows[lines[0]] if lines else ()
        return {key: [rows[line][key] for line in lines] for key in keys}


# --- Planning ----------------------------------------------------------------------------------


def choose_pairs(dataset: Dataset, split: str, views: str) -> list[Pair]:
    """The pairs of a split that `RowsConfig.views` asks for, in the split's order.

    Raises:
        ConfigError: none of the split's pairs is of that kind.
        DataError: there is no such split, a line of it is wrong, or it is empty.
    """
    pairs = dataset.split(split)
    path = dataset.split_file(split)
    if not pairs:
        raise DataError(f"{path}: the split is empty")
    if views != "split":
        if isinstance(dataset, Exported):
            raise ConfigError(
                f"rows.views: {dataset.root} is an export, which holds the split's own pairs "
                f"alone; leave it out, or train from the folder that it was made from"
            )
        pairs = [
            Pair(sample, initial, final)
            for sample in dict.fromkeys(p.sample for p in pairs)
            for initial, final in _views(dataset, sample)
            if views == "all" or (initial == final) == (views == "same")
        ]
    if not pairs:
        raise ConfigError(
            f"rows.views: the scenes of {path} have no pair of the kind {views!r}; use split or all"
        )
    return pairs


def exchanged(pairs: Sequence[Pair]) -> dict[Pair, Pair]:
    """For every pair another one with the same cameras, whose pictures to show in its place.

    What a model still answers right it has not seen. The pictures are those of the next pair in
    the order given, and of the first for the last.

    Raises:
        ConfigError: a pair is the only one with its cameras.
    """
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.initial, pair.final), []).append(pair)
    for cameras, group in groups.items():
        if len(group) < 2:
            raise ConfigError(
                f"--exchange-images: there is only one question from {' to '.join(cameras)}; it "
                "needs two whose pictures can be exchanged"
            )
    return {
        pair: other
        for group in groups.values()
        for pair, other in zip(group, [*group[1:], group[0]], strict=True)
    }


def _views(dataset: Dataset, sample: str) -> list[tuple[str, str]]:
    images = _raw(dataset, sample)["images"]
    initial, final = (
        [i["camera"] for i in images if i["state"] == s] for s in ("initial", "final")
    )
    return [(a, b) for a in initial for b in final]


def _raw(dataset: Dataset, sample: str) -> Any:
    """`sample.json` without a check of its schema: fast enough for going through a split."""
    path = dataset.folder(sample) / "sample.json"
    try:
        return json.loads(dataset.text(sample))
    except ValueError as problem:
        raise DataError(f"{path}: is no JSON ({problem}); render the sample again") from None


def difficulties(dataset: Dataset, split: str, pairs: Sequence[Pair]) -> list[float]:
    """How hard each pair is: the split's own figures, where it has one for every pair.

    Otherwise the number of changes, then of visible objects, then whether the view changes: what
    the paper's tables show accuracy to fall with. Reading all samples takes about 0.1 ms a KB.

    Raises:
        DataError: a sample is missing or damaged.
    """
    given = dataset.difficulties(split)
    if all(pair in given for pair in pairs):
        return [given[pair] for pair in pairs]
    known: dict[str, tuple[int, int]] = {}
    for sample in dict.fromkeys(p.sample for p in pairs):
        document = _raw(dataset, sample)
        objects = document["states"]["initial"]["objects"]
        known[sample] = len(document["transformations"]), sum(o["visible"] for o in objects)
    return [
        100 * known[p.sample][0] + known[p.sample][1] + 0.5 * (p.initial != p.final) for p in pairs
    ]


def epoch_order(
    pairs: Sequence[Pair],
    order: str,
    seed: int,
    epoch: int,
    hardness: Sequence[float] = (),
    together: bool = False,
) -> list[int]:
    """The places of `pairs` in the order in which one epoch asks for them.

    Args:
        pairs: of the split.
        order: see `RowsConfig`.
        seed, epoch: what a random order depends on.
        hardness: of every pair, for `easy-first`.
        together: keep the pairs of one sample next to each other.
    """
    groups: dict[str, list[int]] = {}
    if together:
        for place, pair in enumerate(pairs):
            groups.setdefault(pair.sample, []).append(place)
    units = list(groups.values()) if together else [[place] for place in range(len(pairs))]
    if order != "stored":
        units = [units[k] for k in stream(seed, "order", epoch).permutation(len(units))]
    if order == "easy-first":
        units.sort(key=lambda unit: max(hardness[place] for place in unit))
    return [place for unit in units for place in unit]


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
    assert isinstance(export, Exported)
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


# --- Images ------------------------------------------------------------------------------------


def image_path(dataset: Dataset, sample: Sample, state: str, camera: str) -> Path:
    """The file of one image. Raises DataError if the sample has none."""
    folder = dataset.folder(sample.id)
    try:
        return folder / sample.image(state, camera).path
    except KeyError:
        raise DataError(
            f"{folder / 'sample.json'}: there is no {state} image from camera {camera}"
        ) from None


def open_image(dataset: Dataset, sample: Sample, state: str, camera: str) -> Image.Image:
    """Decode one image of a sample as RGB.

    Raises:
        DataError: the sample has no such image, or the file is missing or damaged.
    """
    path = image_path(dataset, sample, state, camera)
    if isinstance(dataset, Exported):
        return read_rgb(path, dataset.picture(sample.id, path.name))
    return read_rgb(path)


def read_rgb(path: Path, content: bytes | None = None) -> Image.Image:
    """Decode an image file completely, as RGB.

    Args:
        content: what is in the file, if that was read already.

    Raises:
        DataError: it is missing, truncated or no image.
    """
    try:
        with Image.open(path if content is None else BytesIO(content)) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such image; render the sample again") from None
    except (OSError, SyntaxError, UnidentifiedImageError) as problem:
        # Pillow raises SyntaxError for a damaged PNG chunk.
        cure = "delete the sample's folder and render" if content is None else "export"
        raise DataError(f"{path}: the image is damaged ({problem}); {cure} again") from None

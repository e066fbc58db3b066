"""From a pair of images to the row that a trainer reads, made when it is asked for.

`sample.json` is read and the two images are decoded when a row is used, so memory does not grow
with the pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from PIL import ImageOps

from star_tvr.scenes.seeds import stream
from star_tvr.scenes.transformations import answer_text, canonical_order, with_equivalents
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import PAIR_KEYS, Pair, Sample
from star_tvr.training.answers import truth_text
from star_tvr.training.augment import mirror, renumber, reverse
from star_tvr.training.config import PromptConfig, RowsConfig, TraceConfig, TrainConfig
from star_tvr.training.images import image_of, open_image
from star_tvr.training.prompts import answer_completion, build_prompt
from star_tvr.training.scene_facts import Facts, Size, facts_of
from star_tvr.training.traces import write_trace


class AugmentedPair(NamedTuple):
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
        image_sources: pairs whose images are shown instead of a pair's own: see
            `pairs.shuffled_images`.
        seen: width and height to which the model's processor scales the images, where it tells;
            coordinates are of that size if `prompt.coordinates` says so.
    """

    dataset: Dataset
    prompt: PromptConfig
    completion: TraceConfig | None = None
    rows: RowsConfig = RowsConfig()
    seed: int = 0
    image_sources: Mapping[Pair, Pair] = field(default_factory=dict)
    seen: Size | None = None

    @property
    def size(self) -> Size | None:
        """The size that coordinates are of; None is that of the stored images."""
        return self.seen if self.prompt.coordinates == "model" else None

    def augmented(self, pair: Pair, epoch: int = 0) -> AugmentedPair:
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
        return AugmentedPair(sample, pair, mirrored)

    def facts(self, pair: Pair, epoch: int = 0) -> Facts:
        """What is true of a pair as this epoch asks about it. Raises DataError."""
        sample, pair, _ = self.augmented(pair, epoch)
        for state, camera in (("initial", pair.initial), ("final", pair.final)):
            image_of(self.dataset, sample, state, camera)
        return facts_of(sample, pair, self.dataset.world, self.dataset.config, self.size)

    def truth(self, pair: Pair, epoch: int = 0) -> str:
        """The column `truth` of a row. Raises DataError, as `augmented`."""
        plan = self.augmented(pair, epoch).sample.plan
        return truth_text(with_equivalents(plan.initial, plan.transformations, self.dataset.world))

    def row(self, pair: Pair, epoch: int = 0) -> dict[str, Any]:
        """One row: prompt, images, truth, sample, initial, final, epoch and perhaps completion.

        `images` holds two RGB pictures, the initial one first; `truth` is the answer with all that
        is as right, see
        `truth_text`.

        Raises:
            DataError: a file of the sample is missing, unreadable or lacks an image of the pair.
        """
        stored = pair
        sample, pair, mirrored = self.augmented(pair, epoch)
        plan, world, config = sample.plan, self.dataset.world, self.dataset.config
        shown, views = sample, pair
        if stored in self.image_sources:
            views = self.image_sources[stored]
            shown = self.dataset.sample(views.sample)
        images = [
            open_image(self.dataset, shown, state, camera)
            for state, camera in (("initial", views.initial), ("final", views.final))
        ]
        row: dict[str, Any] = {
            "images": [ImageOps.mirror(image) for image in images] if mirrored else images,
            "prompt": build_prompt(sample, pair, world, config, self.prompt, self.size),
            "truth": truth_text(with_equivalents(plan.initial, plan.transformations, world)),
            **stored.to_json(),
            "epoch": epoch,
        }
        if self.completion is not None:
            thought = ""
            if self.completion.style != "answer":
                facts = facts_of(sample, pair, world, config, self.size)
                keys = (stored.sample, stored.initial, stored.final, epoch)
                thought = write_trace(facts, self.completion, self.seed, *keys)
            row["completion"] = answer_completion(
                answer_text(canonical_order(plan.transformations)), thought
            )
        return row

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The rows of a batch of planned lines, as columns. Repeated lines share one row."""
        lines = list(zip(*(batch[k] for k in (*PAIR_KEYS, "epoch")), strict=True))
        rows = {line: self.row(Pair(*line[:3]), line[3]) for line in dict.fromkeys(lines)}
        keys = rows[lines[0]] if lines else ()
        return {key: [rows[line][key] for line in lines] for key in keys}


def row_reader(config: TrainConfig, dataset: Dataset, seen: Size | None = None) -> RowReader:
    """What makes the rows of a run, for a model that sees images of the size `seen`."""
    completion = config.completion if config.kind == "sft" else None
    return RowReader(dataset, config.prompt, completion, config.rows, config.seed, seen=seen)

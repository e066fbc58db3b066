"""From a data set and a split to the rows a trainer reads, made one at a time when asked for.

Only the split's lines are kept in memory; `sample.json` is read and the two images are decoded
when a row is used, so memory does not grow with the data set.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from scenes.errors import DataError
from scenes.transformations import answer_text
from schemas.dataset import Dataset
from schemas.records import Pair, Sample
from training.prompts import Message, PromptConfig, answer_completion, build_prompt

if TYPE_CHECKING:
    import datasets

Completion = Callable[[Sample, Pair], list[Message]]
"""What supervised training teaches for a pair: the assistant's message."""


def answer_only(sample: Sample, pair: Pair) -> list[Message]:
    """The true answer with no reasoning before it: the paper's STAR-SFT baseline."""
    return answer_completion(answer_text(sample.plan.transformations))


@dataclass(frozen=True)
class RowReader:
    """Turns a batch of split lines into rows; the transform of a `datasets.Dataset`.

    Attributes:
        dataset: the open data set.
        prompt: the wording of the questions.
        completion: adds the column `completion`; None for reinforcement learning.
    """

    dataset: Dataset
    prompt: PromptConfig
    completion: Completion | None = None

    def row(self, pair: Pair) -> dict[str, Any]:
        """One row: prompt, images, truth, sample, initial, final and perhaps completion.

        `images` holds two RGB pictures, the initial one first; `truth` is the answer text.

        Raises:
            DataError: a file of the sample is missing, unreadable or lacks an image of the pair.
        """
        sample = self.dataset.sample(pair.sample)
        row: dict[str, Any] = {
            "images": [
                open_image(self.dataset, sample, state, camera)
                for state, camera in (("initial", pair.initial), ("final", pair.final))
            ],
            "prompt": build_prompt(
                sample, pair, self.dataset.world, self.dataset.config, self.prompt
            ),
            "truth": answer_text(sample.plan.transformations),
            **pair.to_json(),
        }
        if self.completion is not None:
            row["completion"] = self.completion(sample, pair)
        return row

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
        """The rows of a batch of split lines, as columns. Repeated lines share one row."""
        pairs = [Pair(*line) for line in zip(*(batch[k] for k in PAIR_KEYS), strict=True)]
        rows = {pair: self.row(pair) for pair in dict.fromkeys(pairs)}
        keys = rows[pairs[0]] if pairs else ()
        return {key: [rows[pair][key] for pair in pairs] for key in keys}


PAIR_KEYS = ("sample", "initial", "final")


def build_rows(
    dataset: Dataset,
    split: str,
    prompt: PromptConfig,
    completion: Completion | None = None,
) -> "datasets.Dataset":
    """The rows of a split, in its order, for TRL's trainers.

    Each row has the columns that `RowReader.row` describes.

    Raises:
        DataError: there is no such split, a line of it is wrong, or it is empty.
    """
    import datasets

    pairs = dataset.split(split)
    if not pairs:
        raise DataError(f"{dataset.root / 'splits' / split}.jsonl: the split is empty")
    table = datasets.Dataset.from_dict({k: [getattr(p, k) for p in pairs] for k in PAIR_KEYS})
    return table.with_transform(RowReader(dataset, prompt, completion))


def open_image(dataset: Dataset, sample: Sample, state: str, camera: str) -> Image.Image:
    """Decode one image of a sample as RGB.

    Raises:
        DataError: the sample has no such image, or the file is missing or damaged.
    """
    folder = dataset.folder(sample.id)
    try:
        path = folder / sample.image(state, camera).path
    except KeyError:
        raise DataError(
            f"{folder / 'sample.json'}: there is no {state} image from camera {camera}"
        ) from None
    return read_rgb(path)


def read_rgb(path: Path) -> Image.Image:
    """Decode an image file completely, as RGB.

    Raises:
        DataError: it is missing, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such image; render the sample again") from None
    except (OSError, SyntaxError, UnidentifiedImageError) as problem:
        # Pillow raises SyntaxError for a damaged PNG chunk.
        raise DataError(
            f"{path}: the image is damaged ({problem}); delete the sample's folder and render again"
        ) from None

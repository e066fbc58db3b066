"""What is exported: the pairs of a split one at a time, each checked before it goes out."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from star_tvr.scenes.errors import DataError
from star_tvr.scenes.rules import check_plan
from star_tvr.scenes.transformations import answer_text, with_equivalents
from star_tvr.schemas.checks import iter_jsonl
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.files import open_file
from star_tvr.schemas.records import Image, Pair, Sample
from star_tvr.training.answers import truth_text
from star_tvr.training.config import PromptConfig
from star_tvr.training.images import read_picture
from star_tvr.training.prompts import Message, build_prompt, flat_messages


@dataclass(frozen=True)
class ExportSplit:
    """One split to export.

    Attributes:
        scheme, name: as in `splits/<scheme>/<name>.jsonl`; `default` and `train` where all pairs
            of a data set without splits are meant.
        split: the split to read, or None for all pairs.
    """

    scheme: str
    name: str
    split: str | None


@dataclass(frozen=True)
class ExportItem:
    """One pair with its sample.

    Attributes:
        difficulty: 0 to 1; None where the split does not say.
    """

    sample: Sample
    pair: Pair
    difficulty: float | None

    def image(self, state: str) -> Image:
        """The `initial` or the `final` image of the pair."""
        return self.sample.image(state, getattr(self.pair, state))

    @property
    def answer(self) -> str:
        """The true answer, in the answer language."""
        return answer_text(self.sample.plan.transformations)


def choose_splits(dataset: Dataset, splits: Sequence[str]) -> list[ExportSplit]:
    """The splits with these names; all of them where none is named; all pairs where none exists.

    Raises:
        DataError: there is no such split.
    """
    known = dataset.split_names()
    for name in splits:
        if name not in known:
            there = ", ".join(known) or "none; run tvr split first"
            raise DataError(f"{dataset.root}: there is no split {name} (known: {there})")
    chosen = list(dict.fromkeys(splits)) or known
    if not chosen:
        return [ExportSplit("default", "train", None)]
    return [ExportSplit(name.partition("/")[0], name.partition("/")[2], name) for name in chosen]


def count(dataset: Dataset, parts: Sequence[ExportSplit]) -> int:
    """How many items the parts have, or about; nothing is checked."""
    total = 0
    for part in parts:
        if part.split is None:
            cameras = dataset.config.cameras
            total += len(dataset.ids()) * len(cameras.initial) * len(cameras.final)
        else:
            with open_file(dataset.split_file(part.split), dataset.root) as file:
                total += sum(1 for line in file if line.strip())
    return total


def items(dataset: Dataset, part: ExportSplit) -> Iterator[ExportItem]:
    """The items of a part in its order, one at a time.

    Raises:
        DataError: a line, a sample or an image record is wrong; the sentence names it.
    """
    if part.split is None:
        for sample_id in dataset.ids():
            sample = read_checked(dataset, sample_id, str(dataset.root))
            for initial in _cameras(sample, "initial"):
                for final in _cameras(sample, "final"):
                    yield ExportItem(sample, Pair(sample_id, initial, final), None)
        return
    path = dataset.split_file(part.split)
    former: Sample | None = None
    for line in iter_jsonl(path, "split", dataset.root):
        pair = Pair(line["sample"], line["initial"], line["final"])
        if former is None or former.id != pair.sample:
            former = read_checked(dataset, pair.sample, str(path))
        for state in ("initial", "final"):
            camera = getattr(pair, state)
            if camera not in _cameras(former, state):
                raise DataError(f"{path}: {pair.sample} has no image {state}-{camera}")
        yield ExportItem(former, pair, line.get("difficulty"))


def _cameras(sample: Sample, state: str) -> list[str]:
    return [camera for name, camera in sample.plan.views if name == state]


def read_checked(dataset: Dataset, sample_id: str, where: str) -> Sample:
    """Read a sample that is what its folder says, and whose answer leads to its final state.

    Args:
        where: what asks for the sample, for the error.

    Raises:
        DataError: it is missing, a link, or contradicts itself.
    """
    folder = dataset.folder(sample_id)
    path = folder / "sample.json"
    if not folder.is_dir():
        raise DataError(f"{where}: sample {sample_id} is not in the data set")
    sample = dataset.sample(sample_id)
    if sample.id != sample_id:
        raise DataError(f"{path}: id is {sample.id}, but the folder is called {sample_id}")
    check_plan(sample.plan, dataset.world, str(path))
    return sample


def picture(dataset: Dataset, sample: Sample, image: Image) -> bytes:
    """The PNG file of an image, decoded once to know that it is whole.

    Raises:
        DataError: it is missing, damaged, a link, or another picture than recorded.
    """
    return read_picture(dataset, sample, image, image.path, "RGB")[0]


def mask(dataset: Dataset, sample: Sample, image: Image) -> bytes | None:
    """The PNG file of an image's mask, if it has one.

    Raises:
        DataError: it is missing, damaged, a link, or another picture than recorded.
    """
    if image.mask is None:
        return None
    return read_picture(dataset, sample, image, image.mask, "L")[0]


def flat_prompt(dataset: Dataset, item: ExportItem, prompt: PromptConfig) -> list[Message]:
    """The question as messages of plain text, with `<image>` where an image goes."""
    return flat_messages(
        build_prompt(item.sample, item.pair, dataset.world, dataset.config, prompt)
    )


def truth(dataset: Dataset, item: ExportItem) -> str:
    """The true answer with all that is as right: what rewards are given."""
    plan = item.sample.plan
    return truth_text(with_equivalents(plan.initial, plan.transformations, dataset.world))


def record(dataset: Dataset, item: ExportItem, prompt: PromptConfig) -> dict[str, Any]:
    """Everything about a pair but its pictures, fit for JSON."""
    plan, world = item.sample.plan, dataset.world
    told = with_equivalents(plan.initial, plan.transformations, world)
    return {
        **item.pair.to_json(),
        "difficulty": item.difficulty,
        "prompt": flat_prompt(dataset, item, prompt),
        "answer": item.answer,
        "truth": truth(dataset, item),
        "transformations": [{**asdict(t), "equivalents": list(t.equivalents)} for t in told],
        "initial_objects": [o.to_json(world) for o in plan.initial],
        "final_objects": [o.to_json(world) for o in plan.final],
    }

"""Questions with their two pictures, the true answer, and what several models said.

A completion is untrusted text: here it is only cut to a length; the page escapes it.
"""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import zip_longest
from typing import NamedTuple

from star_tvr.scenes.errors import DataError
from star_tvr.scenes.seeds import derive
from star_tvr.scenes.states import SceneObject
from star_tvr.scenes.transformations import Transformation
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Pair, Sample
from star_tvr.training.answers import parse_triplet
from star_tvr.training.images import open_image
from star_tvr.training.metrics import Result
from star_tvr.training.rewards import score

THUMBNAIL = 320
"""Widest picture, in pixels."""

MAX_TRIPLETS = 16
MAX_PIECE = 60
HEAD, TAIL = 1200, 400
"""Of a long text its beginning and its end are shown."""

JUDGEMENTS = {
    "exact": ("right", "right"),
    "attribute": ("partly", "right object and attribute, wrong value"),
    "object": ("partly", "right object only"),
    "wrong": ("wrong", "wrong"),
}
"""Class and words for each tier of the STAR reward."""


class MarkedTriplet(NamedTuple):
    """A triplet, coloured: `kind` is right, partly, wrong, missed or none."""

    text: str
    kind: str
    words: str


@dataclass(frozen=True)
class JudgedAnswer:
    """What one model said to one question.

    Attributes:
        name: of the evaluation.
        right: whether it counts for TAcc; None if it is not known.
        triplets: its triplets, and the true ones that it missed.
        more: number of further predictions that are not shown.
        reward: the STAR reward.
        text: the completion, or its ends; None if there is none.
    """

    name: str
    right: bool | None
    triplets: tuple[MarkedTriplet, ...]
    more: int
    reward: float
    text: str | None


@dataclass(frozen=True)
class Label:
    """Where an object's index stands on a picture, in percent of its width and height."""

    index: int
    left: float
    top: float
    changed: bool


@dataclass(frozen=True)
class Thumbnail:
    """A thumbnail as data URL, with its size in pixels and the indices of the objects in it."""

    caption: str
    url: str
    width: int
    height: int
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class GalleryEntry:
    """One question.

    Attributes:
        title: sample and cameras.
        facts: number of objects and angle between the views.
        truth: the true triplets, each with the object in words where that is known.
        pictures: the initial and the final one, or nothing.
        problem: why there are no pictures.
        answers: one for each evaluation.
    """

    title: str
    facts: str
    truth: tuple[tuple[str, str], ...]
    pictures: tuple[Thumbnail, ...]
    problem: str
    answers: tuple[JudgedAnswer, ...]


def judge(
    name: str, completion: str | None, truth: Sequence[str], right: bool | None
) -> JudgedAnswer:
    """Mark every triplet of a completion as the STAR reward does."""
    result = score(completion or "", list(truth))
    triplets = [
        MarkedTriplet(cut(str(m.prediction)), *JUDGEMENTS[m.tier])
        for m in result.matches[:MAX_TRIPLETS]
    ]
    if not triplets:
        triplets = [MarkedTriplet("names nothing", "none", "")]
    missed = [MarkedTriplet(str(t), "missed", "missed") for t in result.unmatched]
    return JudgedAnswer(
        name=name,
        right=right,
        triplets=(*triplets, *missed),
        more=max(0, len(result.matches) - MAX_TRIPLETS),
        reward=result.total,
        text=None if completion is None else ends(completion),
    )


def cut(text: str, length: int = MAX_PIECE) -> str:
    """The beginning of a text."""
    return text if len(text) <= length else text[: length - 1] + "…"


def ends(text: str) -> str:
    """A text, or its beginning and its end with what is left out counted between them."""
    left = len(text) - HEAD - TAIL
    if left <= 0:
        return text
    return f"{text[:HEAD]}\n[… {left:,} characters left out …]\n{text[-TAIL:]}"


def choose(results: Iterable[Result], count: int) -> list[Result]:
    """Some questions worth looking at: mostly failures, of all kinds, and a few successes."""
    right: list[Result] = []
    wrong: list[Result] = []
    for result in results:
        (right if result.right else wrong).append(result)
    successes = min(len(right), max(count // 4, count - len(wrong)))
    chosen = list(_mixed(wrong))[: count - successes]
    return chosen + list(_mixed(right))[:successes]


def _mixed(results: Iterable[Result]) -> Iterator[Result]:
    """The results, taken in turn from each final camera and number of transformations."""
    kinds: dict[tuple[int, str], list[Result]] = {}
    # In an order of chance, or all kinds would begin with the same scene.
    for result in sorted(results, key=lambda r: derive(0, "gallery", *astuple(r.pair))):
        kinds.setdefault((len(result.truth), result.pair.final), []).append(result)
    for turn in zip_longest(*(kinds[kind] for kind in sorted(kinds))):
        yield from (result for result in turn if result is not None)


def gallery_entry(
    result: Result, said: Sequence[tuple[str, Result]], dataset: Dataset | None, missing: str
) -> GalleryEntry:
    """Everything to show about a question.

    Args:
        result: the question, scored.
        said: the name of each evaluation, and what it said to it.
        dataset: where its pictures are, or None.
        missing: why there is no data set.
    """
    pair, objects = result.pair, result.objects
    facts = [f"{objects} visible object{'' if objects == 1 else 's'}"]
    if result.angle is not None:
        same = pair.initial == pair.final
        facts.append("same view" if same else f"{result.angle:.0f}° between the views")
    pictures: tuple[Thumbnail, ...] = ()
    words: Mapping[str, str] = {}
    problem = missing
    if dataset is not None:
        try:
            sample = dataset.sample(pair.sample)
            if {str(t) for t in sample.plan.transformations} != set(result.truth):
                raise DataError(f"{dataset.root}: sample {pair.sample} has another answer now")
            words = {t: in_words(t, sample) for t in result.truth}
            pictures = _thumbnails(dataset, sample, pair)
        except DataError as error:
            problem = str(error)
    return GalleryEntry(
        title=f"Sample {pair.sample}, {pair.initial} to {pair.final}",
        facts=", ".join(facts),
        truth=tuple((t, words.get(t, "")) for t in result.truth),
        pictures=pictures,
        problem=problem,
        answers=tuple(
            judge(name, other.completion, other.truth, other.right) for name, other in said
        ),
    )


def in_words(triplet: str, sample: Sample) -> str:
    """`0.size.small` as `large red metal cube: large to small`; nothing if it fits no object."""
    t = parse_triplet(triplet)
    if t is None or not 0 <= t.object < len(sample.plan.initial):
        return ""
    obj = sample.plan.initial[t.object]
    described = f"{obj.size} {obj.color} {obj.material} {obj.shape}"
    return f"{described}: {_before(obj, t)}{t.value}"


def _before(obj: SceneObject, t: Transformation) -> str:
    return "moves " if t.attribute == "position" else f"{getattr(obj, t.attribute)} to "


def _thumbnails(dataset: Dataset, sample: Sample, pair: Pair) -> tuple[Thumbnail, ...]:
    changed = {t.object for t in sample.plan.transformations}
    return tuple(
        _thumbnail(dataset, sample, state, camera, changed)
        for state, camera in (("initial", pair.initial), ("final", pair.final))
    )


def _thumbnail(
    dataset: Dataset, sample: Sample, state: str, camera: str, changed: set[int]
) -> Thumbnail:
    """Raises DataError if there is no such picture or it is damaged."""
    picture = open_image(dataset, sample, state, camera)
    image = sample.image(state, camera)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=82)
    labels = []
    for view in image.objects:
        u, v = view.center
        if view.bbox is not None:
            u, v = (view.bbox[0] + view.bbox[2]) / 2, view.bbox[1]
        left, top = 100 * u / image.width, 100 * v / image.height
        if 0 <= left <= 100 and 0 <= top <= 100:
            labels.append(Label(view.index, left, top, view.index in changed))
    return Thumbnail(
        caption=f"{state}, {camera}",
        url=f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}",
        width=picture.width,
        height=picture.height,
        labels=tuple(labels),
    )

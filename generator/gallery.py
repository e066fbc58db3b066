"""One HTML file to look at a data set with: no server, no network.

The page holds small pictures and the JSON of every sample; full pictures are in it too if there
are few, else it links to the files beside it. What comes from files is untrusted: it travels as
JSON and the page's script only ever writes it as text. A policy in the page keeps browsers from
running or loading anything else.
"""

import base64
import hashlib
import io
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import PIL.Image
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from star_tvr.generator.difficulty import difficulty, view_angle
from star_tvr.generator.stats import StatsAccumulator, figures
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.language import answer_words
from star_tvr.scenes.states import visible_objects
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.files import make_folder, read_text, write_whole, writing
from star_tvr.schemas.pictures import decode_png, is_gray, mask_palette
from star_tvr.schemas.records import Image, Pair, Sample

FOLDER = Path(__file__).parent
TEMPLATE = "gallery.html.jinja"

THUMBNAIL = (120, 90)
"""Largest width and height of a picture in the grid, in pixels."""

THUMBNAILS = 4
"""Pictures of a sample that get one: the first initial ones and final ones."""

EMBED = 8_000_000
"""Full pictures and masks are in the page if all together have at most this many bytes."""


class ScoredAnswer(Protocol):
    """An answer to a question, scored.

    Attributes:
        right: whether it is right; None if that is not known.
        triplets: its triplets and the true ones it missed: text; right, partly, wrong, missed or
            none; and words.
        more: number of further predictions that are not shown.
        reward: of the whole answer.
        text: what was said; None if nothing.
    """

    @property
    def right(self) -> bool | None: ...  # noqa: D102
    @property
    def triplets(self) -> Sequence[tuple[str, str, str]]: ...  # noqa: D102
    @property
    def more(self) -> int: ...  # noqa: D102
    @property
    def reward(self) -> float: ...  # noqa: D102
    @property
    def text(self) -> str | None: ...  # noqa: D102


class Gallery:
    """A gallery in the making; samples are added one at a time.

    Args:
        dataset: what to show.
        path: the file to write; pictures are linked relative to it.
        answers: scored answers to some of the questions.
    """

    def __init__(self, dataset: Dataset, path: Path, answers: Mapping[Pair, ScoredAnswer]) -> None:
        self._dataset = dataset
        self._path = Path(path)
        self._answers = answers
        self._ids = dataset.ids()
        self._splits: dict[Pair, list[str]] = {}
        for name in dataset.split_names():
            for pair in dataset.split(name):
                self._splits.setdefault(pair, []).append(name)
        self._stats = StatsAccumulator(dataset)
        self._samples: list[dict[str, Any]] = []
        self._images: list[tuple[str, Image, dict[str, Any]]] = []
        self._bytes = 0

    def choose(self, limit: int) -> list[str]:
        """The samples to show: the first ones, or with answers those that have some first."""
        answered = {pair.sample for pair in self._answers}
        return sorted(sorted(self._ids, key=lambda i: (i not in answered, i))[:limit])

    def add(self, sample: Sample) -> None:
        """Take in a sample."""
        self._stats.update(sample)
        plan, world = sample.plan, self._dataset.world
        folder = self._dataset.folder(sample.id)
        small = [image for image in sample.images if image.state in ("initial", "final")]
        images = {}
        for image in sample.images:
            files = [folder / name for name in (image.path, image.mask) if name]
            self._bytes += sum(self._size(sample.id, file) for file in files)
            images[f"{image.state}-{image.camera}"] = shown = {
                "thumb": self._thumbnail(sample.id, image) if image in small[:THUMBNAILS] else None,
                "full": self._link(files[0]),
                "mask": self._link(files[1]) if image.mask else None,
                "gray": image.mask is not None and self._is_gray(sample.id, image.mask),
            }
            self._images.append((sample.id, image, shown))
        text = self._dataset.text(sample.id)
        self._samples.append(
            {
                "id": sample.id,
                "preset": plan.preset,
                "objects": len(visible_objects(plan.initial, world)),
                "triplets": [str(t) for t in plan.transformations],
                "attributes": sorted({t.attribute for t in plan.transformations}),
                "words": answer_words(plan.initial, plan.transformations, world),
                "pairs": [self._pair(sample, pair) for pair in sample.pairs()],
                "images": images,
                "file": self._link(folder / "sample.json"),
                "json": base64.b64encode(zlib.compress(text.encode(), 9)).decode(),
            }
        )

    def _pair(self, sample: Sample, pair: Pair) -> dict[str, Any]:
        document: dict[str, Any] = {
            "initial": pair.initial,
            "final": pair.final,
            "angle": view_angle(sample, pair),
            "difficulty": difficulty(sample, pair, self._dataset.world),
            "splits": self._splits.get(pair, []),
        }
        answer = self._answers.get(pair)
        if answer is not None:
            document["said"] = {
                "right": answer.right,
                "chips": [list(chip) for chip in answer.triplets],
                "more": answer.more,
                "reward": answer.reward,
                "text": answer.text,
            }
        return document

    def _png(
        self, sample_id: str, image: Image, name: str, mode: str
    ) -> tuple[bytes, PIL.Image.Image] | None:
        """A picture or mask as file and decoded; None if it is not what the sample says."""
        size = (image.width, image.height)
        try:
            content = self._dataset.picture(sample_id, name)
            return content, decode_png(content, name, mode, size)
        except DataError:
            return None

    def _size(self, sample_id: str, file: Path) -> int:
        """Bytes of a picture's file; 0 if there is none."""
        if self._dataset.has_files:
            return file.stat().st_size if file.is_file() else 0
        try:
            return len(self._dataset.picture(sample_id, file.name))
        except DataError:
            return 0

    def _is_gray(self, sample_id: str, mask: str) -> bool:
        try:
            return is_gray(self._dataset.picture(sample_id, mask))
        except DataError:
            return False

    def _thumbnail(self, sample_id: str, image: Image) -> str | None:
        """A small picture as data URL; None if there is no picture to be read."""
        png = self._png(sample_id, image, image.path, "RGB")
        if png is None:
            return None
        small = png[1]
        small.thumbnail(THUMBNAIL, PIL.Image.Resampling.LANCZOS, reducing_gap=2)
        stream = io.BytesIO()
        small.save(stream, "WEBP", quality=65, method=2)
        return _url(stream.getvalue(), "webp")

    def _link(self, file: Path) -> str | None:
        """The way to a file from the page; None in an export, which has no files of samples."""
        if not self._dataset.has_files:
            return None
        start = os.path.realpath(self._path.parent)
        return quote(Path(os.path.relpath(os.path.realpath(file.parent), start)).as_posix()) + (
            f"/{quote(file.name)}"
        )

    def write(self) -> Path:
        """Write the page with all samples taken in.

        Raises:
            DataError: there are none, or the file cannot be written.
        """
        stats = self._stats.compute()
        embedded = self._bytes <= EMBED
        if embedded:
            for sample_id, image, shown in self._images:
                for key, name, mode in (("full", image.path, "RGB"), ("mask", image.mask, "L")):
                    if name:
                        png = self._png(sample_id, image, name, mode)
                        shown[key] = png and _url(png[0], "png")
        data = {
            "name": os.fsencode(self._dataset.root.resolve().name).decode("utf-8", "replace"),
            "answers": bool(self._answers),
            "embedded": embedded,
            "size": [self._dataset.config.image.width, self._dataset.config.image.height],
            "colors": {k: list(v) for k, v in self._dataset.world.colors.items()},
            "maskColors": mask_palette(),
            "samples": self._samples,
        }
        html = render_html(
            data,
            total=len(self._ids),
            figures={name: _url(png, "png") for name, png in figures(stats).items()},
        )
        with writing(self._path):
            make_folder(self._path.parent)
            write_whole(self._path, html)
        return self._path


def render_html(data: Mapping[str, Any], total: int, figures: Mapping[str, str]) -> str:
    """The HTML text.

    Args:
        data: what the script shows.
        total: number of samples in the data set.
        figures: data URLs of the statistics' figures by name.
    """
    script, style = (read_text(FOLDER / f"gallery.{kind}") for kind in ("js", "css"))
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        name=data["name"],
        shown=len(data["samples"]),
        total=total,
        answers=data["answers"],
        figures=figures,
        script=Markup(script),
        style=Markup(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
        data=Markup(script_json(data)),
    )


def script_json(data: Any) -> str:
    r"""JSON that can stand in a script element: nothing in it can end the element.

    >>> script_json("</script>")
    '"\\u003c/script>"'
    """
    return json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

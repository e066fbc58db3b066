"""Making a data set of ours from the files of TRANCE. docs/formats.md says what becomes of what.

Three forms are read: `data.h5`, where a split is a group of samples and images; `data.jsonl` beside
`image/`, as it was published; and `info/*.json` beside `image/`, as the generator writes it.
Nothing in a file is trusted: documents are checked against `trance.schema.json`, image names are
names, and links are not followed.
"""

import json
import platform
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import PIL.Image

from star_tvr.generator.labels import image_labels
from star_tvr.scenes.errors import ConfigError, DataError, TvrError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.rules import check_plan, violations
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.scenes.world import World
from star_tvr.schemas.card import write_card
from star_tvr.schemas.checks import check, parse_json, read_json, read_text
from star_tvr.schemas.config import Config, check_meaning, load_config
from star_tvr.schemas.dataset import (
    Dataset,
    commit_sample,
    dumps,
    manifest,
    remove_drafts,
    rendered,
    write_whole,
)
from star_tvr.schemas.folders import refuse_other, was_begun
from star_tvr.schemas.pictures import decode_png, encode_png
from star_tvr.schemas.records import Pair, Sample
from star_tvr.schemas.trance import (
    ATTRIBUTES,
    FRONT_IS_AWAY,
    agrees,
    our_camera,
    read_plan,
    world_block,
)

PRESET = "trance-import"

RENDER = {
    "engine": "cycles",
    "device": "unknown",
    "samples": 512,
    "denoiser": None,
    "blender": "2.79",
    "seconds": 0.0,
}
"""How TRANCE was rendered, by its published settings."""

SETTINGS = ("form", "attributes", "strict")
"""What `source` says in a manifest that a further run of the same import says as well."""

Kind = Literal["imported", "there", "other attributes", "broken rule", "damaged"]


@dataclass(frozen=True)
class Entry:
    """One sample as it lies in the source, not yet read.

    Attributes:
        where: for errors.
        split: the split it is in, if the form has splits.
        text: reads its JSON; raises DataError.
    """

    where: str
    split: str | None
    text: Callable[[], str]


@dataclass(frozen=True)
class Outcome:
    """What became of one entry; `message` is one line, empty where there is nothing to say."""

    kind: Kind
    message: str = ""


class Source(Protocol):
    """Files of TRANCE in one of their forms."""

    form: str
    root: Path

    def count(self) -> int:
        """How many entries there are."""

    def entries(self) -> Iterator[Entry]:
        """All of them, in order."""

    def image(self, split: str | None, name: str) -> PIL.Image.Image:
        """An image by its name; raises DataError."""


def open_source(src: Path) -> Source:
    """Recognise the form of a folder, or of a `data.h5` or `data.jsonl` that is named itself.

    Raises:
        DataError: it is none of them.
    """
    if src.is_file():
        return Packed(src) if src.suffix in (".h5", ".hdf5") else Lines(src)
    if (src / "data.h5").is_file():
        return Packed(src / "data.h5")
    if (src / "data.jsonl").is_file():
        return Lines(src / "data.jsonl")
    if any(src.glob("info/*.json")):
        return Documents(src)
    raise DataError(f"{src}: is no TRANCE (there is no data.h5, data.jsonl or info/*.json in it)")


class Pictures:
    """The folder `image/` beside the documents."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, split: str | None, name: str) -> PIL.Image.Image:
        """See `Source`."""
        path = self.root / "image" / name
        if path.is_symlink() or not path.resolve().is_relative_to(self.root.resolve()):
            raise DataError(f"{path}: is a link, which could lead anywhere; copy the file")
        try:
            return decode_png(path.read_bytes(), path)
        except OSError as problem:
            raise DataError(f"{path}: cannot be read ({problem.strerror})") from None


class Lines(Pictures):
    """`data.jsonl`, one sample a line."""

    form = "jsonl"

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent)
        self.path = path

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        try:
            with self.path.open("rb") as file:
                yield from ((n, line) for n, line in enumerate(file, start=1) if line.strip())
        except OSError as problem:
            raise DataError(f"{self.path}: cannot be read ({problem.strerror})") from None

    def count(self) -> int:
        """See `Source`."""
        return sum(1 for _ in self._lines())

    def entries(self) -> Iterator[Entry]:
        """See `Source`."""
        for number, line in self._lines():
            where = f"{self.path}, line {number}"
            yield Entry(where, None, partial(_text, line, where))


class Documents(Pictures):
    """`info/*.json`, one sample a file."""

    form = "json"

    def _paths(self) -> list[Path]:
        return sorted((self.root / "info").glob("*.json"))

    def count(self) -> int:
        """See `Source`."""
        return len(self._paths())

    def entries(self) -> Iterator[Entry]:
        """See `Source`."""
        for path in self._paths():
            yield Entry(str(path), None, partial(read_text, path))


class Packed:
    """`data.h5`."""

    form = "hdf5"

    def __init__(self, path: Path) -> None:
        import h5py

        self.path, self.root = path, path.parent
        try:
            self.file = h5py.File(path, "r")
            self.splits = list(self.file)
            names = {split: list(self._group(split, "data")) for split in self.splits}
        except OSError as problem:
            reason = " ".join(str(problem).split())
            raise DataError(f"{path}: cannot be read as HDF5 ({reason})") from None
        for split in self.splits:
            if not re.fullmatch("[a-z][a-z0-9_-]*", split):
                raise DataError(f"{path}: {split!r} is no name for a split")
        self.names = {s: sorted(n, key=lambda k: (len(k), k)) for s, n in names.items()}

    def _get(self, group: Any, name: str, where: str) -> Any:
        """A member that is really in this file: links out of it are refused."""
        import h5py

        if not isinstance(group, h5py.Group) or name not in group:
            raise DataError(f"{self.path}: there is no {where}")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DataError(f"{self.path}: {where} is a link, which could lead anywhere")
        return group[name]

    def _group(self, split: str, kind: str) -> Any:
        import h5py

        where = f"{split}/{kind}"
        group = self._get(self._get(self.file, split, split), kind, where)
        if not isinstance(group, h5py.Group):
            raise DataError(f"{self.path}: {where} is a dataset, and should be a group")
        return group

    def count(self) -> int:
        """See `Source`."""
        return sum(len(names) for names in self.names.values())

    def entries(self) -> Iterator[Entry]:
        """See `Source`."""
        for split, names in self.names.items():
            for name in names:
                where = f"{self.path}: {split}/data/{name}"
                yield Entry(where, split, partial(self._text, split, name))

    def _text(self, split: str, name: str) -> str:
        where = f"{split}/data/{name}"
        content = self._value(self._get(self._group(split, "data"), name, where), where)
        if not isinstance(content, bytes):
            raise DataError(f"{self.path}: {where} is no text")
        return _text(content, f"{self.path}: {where}")

    def image(self, split: str | None, name: str) -> PIL.Image.Image:
        """See `Source`."""
        where = f"{split}/image/{name}"
        pixels = self._value(self._get(self._group(split or "", "image"), name, where), where)
        if not (
            isinstance(pixels, np.ndarray)
            and pixels.dtype == np.uint8
            and pixels.ndim == 3
            and pixels.shape[2] in (3, 4)
            and pixels.size
        ):
            raise DataError(f"{self.path}: {where} is no image (height, width, 3 or 4) of bytes")
        return PIL.Image.fromarray(pixels[..., :3])

    def _value(self, node: Any, where: str) -> Any:
        import h5py

        if not isinstance(node, h5py.Dataset):
            raise DataError(f"{self.path}: {where} is a group, and should be a dataset")
        try:
            return node[()]
        except OSError as problem:
            reason = " ".join(str(problem).split())
            raise DataError(f"{self.path}: {where}: cannot be read ({reason})") from None


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as problem:
        raise DataError(f"{where}: is not UTF-8 ({problem})") from None


def parse_attributes(text: str | None) -> tuple[str, ...]:
    """Read `--attributes`; empty means all.

    >>> parse_attributes("color,size")
    ('color', 'size')

    Raises:
        ConfigError: there is no such attribute.
    """
    names = tuple(dict.fromkeys(n.strip() for n in (text or "").split(",") if n.strip()))
    for name in names:
        if name not in ATTRIBUTES:
            known = ", ".join(ATTRIBUTES)
            raise ConfigError(f"--attributes {text}: {name!r} is unknown; known are {known}")
    return names


@dataclass
class Importer:
    """One import, prepared: `run` does it.

    Attributes:
        config: of the data set that comes out; `num_samples` as if every sample were taken.
        estimated: what the source does not say and the preset has to.
    """

    source: Source
    out: Path
    attributes: tuple[str, ...]
    strict: bool
    total: int
    config: Config
    estimated: tuple[str, ...]
    rules: Counter[str] = field(default_factory=Counter)

    def run(self) -> Generator[Outcome, None, None]:
        """Import what is not there yet; yields what became of every entry.

        At the end the manifest counts what is there, and splits and card are written.

        Raises:
            DataError: the target cannot be written, or nothing could be imported.
        """
        world = World.from_config(self.config["world"])
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            write_whole(self.out / "dataset.json", dumps(self._manifest(self.total, {})))
            done = set(rendered(self.out))
            drafts = (self.out / "samples").glob("*/.[0-9]*")
            remove_drafts(self.out, {draft.name.split(".")[1] for draft in drafts})
            seen: set[str] = set()
            members: dict[str, list[str]] = {}
            kinds: Counter[str] = Counter()
            for entry in self.source.entries():
                outcome, name = self._import(entry, world, done, seen)
                kinds[outcome.kind] += 1
                if outcome.kind in ("imported", "there"):
                    seen.add(name)
                    if entry.split is not None:
                        members.setdefault(entry.split, []).append(name)
                yield outcome
            self._finish(kinds, members)
        except OSError as problem:
            raise DataError(f"{self.out}: cannot be written ({problem.strerror})") from None

    def _import(
        self, entry: Entry, world: World, done: set[str], seen: set[str]
    ) -> tuple[Outcome, str]:
        try:
            document = read_entry(entry)
            if self.attributes and not _only(document, self.attributes):
                return Outcome("other attributes"), ""
            plan = checked_plan(document, entry, world, self.config)
            if plan.id in seen:
                return Outcome("damaged", f"{entry.where}: idx: {plan.id} is there twice"), ""
            broken = self._broken(plan, world)
            if broken and self.strict:
                return Outcome("broken rule"), ""
            if plan.id not in done:
                commit_sample(self.out, plan.id, self._files(document, entry, plan, world))
            self.rules.update(broken)
            return Outcome("there" if plan.id in done else "imported"), plan.id
        except DataError as problem:
            return Outcome("damaged", str(problem)), ""

    def _broken(self, plan: Plan, world: World) -> set[str]:
        config = self.config
        size = (config["image"]["width"], config["image"]["height"])
        found = {v.rule for v in violations(plan, world, config["visibility"]["min_pixels"], *size)}
        return found - ({"observable"} if "cameras" in self.estimated else set())

    def _files(
        self, document: dict[str, Any], entry: Entry, plan: Plan, world: World
    ) -> dict[str, bytes]:
        names = {
            (state, our_camera(camera)): name
            for state, k in (("initial", 0), ("final", -1))
            for camera, name in document["states"][k]["images"].items()
        }
        size = (self.config["image"]["width"], self.config["image"]["height"])
        files: dict[str, bytes] = {}
        images = []
        for state_name, camera_name in plan.views:
            name = names[state_name, camera_name]
            picture = self.source.image(entry.split, name)
            if picture.size != size:
                raise DataError(
                    f"{entry.where}: {name} is {picture.width} x {picture.height}, and the first "
                    f"image was {size[0]} x {size[1]}"
                )
            state, camera = plan.state(state_name, world), plan.cameras[camera_name]
            objects = visible_objects(state, world)
            numbers = np.array([0, *(o.index + 1 for o in objects)], dtype=np.uint8)
            mask = numbers[rasterize(objects, camera, world, *size).ids + 1]
            image = image_labels(mask, state_name, state, camera_name, camera, world, False)
            images.append(image)
            files[image.path] = encode_png(np.asarray(picture.convert("RGB")))
        sample = Sample(plan, tuple(images), RENDER)
        return {**files, "sample.json": dumps(sample.to_json(world)).encode()}

    def _finish(self, kinds: Counter[str], members: dict[str, list[str]]) -> None:
        count = kinds["imported"] + kinds["there"]
        if not count:
            (self.out / "dataset.json").unlink()
            raise DataError(f"{self.source.root}: none of its {self.total} samples was imported")
        self.config["num_samples"] = count
        left_out = {k: n for k, n in sorted(kinds.items()) if k not in ("imported", "there")}
        write_whole(self.out / "dataset.json", dumps(self._manifest(count, left_out)))
        dataset = Dataset.open(self.out)
        cameras = self.config["cameras"]
        for split, names in members.items():
            pairs = (
                Pair(n, i, f) for n in names for i in cameras["initial"] for f in cameras["final"]
            )
            dataset.write_split(f"trance/{split}", pairs)
        write_card(dataset)

    def _manifest(self, count: int, left_out: dict[str, int]) -> dict[str, Any]:
        versions = {"python": platform.python_version(), "star-tvr": version("star-tvr")}
        document = manifest({**self.config, "num_samples": count}, versions)
        document["source"] = {
            "format": "trance",
            "form": self.source.form,
            "attributes": list(self.attributes),
            "strict": self.strict,
            "estimated": list(self.estimated),
            "left_out": left_out,
            "broken_rules": dict(sorted(self.rules.items())),
        }
        return document


def prepare_import(
    src: Path, out: Path, attributes: Sequence[str] = (), strict: bool = False
) -> Importer:
    """Recognise the source, and the target if an earlier run began it. Writes nothing.

    Args:
        src: a folder of TRANCE, or its `data.h5` or `data.jsonl`.
        attributes: take only samples that change no others; all where empty.
        strict: leave out samples that break a rule of ours.

    Raises:
        ConfigError: the target was made with something else, or holds something else.
        DataError: the source is no TRANCE, or has no sample that can be read.
    """
    source = open_source(src)
    total = source.count()
    for entry in source.entries():
        try:
            document = read_entry(entry)
            first = document["states"][0]["images"]
            size = source.image(entry.split, next(iter(first.values()))).size if first else None
        except DataError:
            continue  # `run` names it
        if size is not None:
            break
    else:
        raise DataError(f"{src}: none of its {total} samples can be read")
    config = _config(source, document, size, tuple(attributes), total)
    estimated = [
        name
        for name, known in (
            ("cameras", document.get("cameras")),
            ("lights", document.get("lamps")),
            ("rotations", "rotation" in document["states"][0]["objects"][0]),
        )
        if not known
    ]
    importer = Importer(source, out, tuple(attributes), strict, total, config, tuple(estimated))
    if was_begun(out, "dataset.json"):
        former, wanted = Dataset.open(out).manifest, importer._manifest(total, {})
        refuse_other(out, _settings(former), _settings(wanted), free=("num_samples",))
    return importer


def _settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """Of a manifest, what two runs of one import have in common."""
    source = document.get("source", {})
    return {**document["config"], "source": {k: source.get(k) for k in SETTINGS}}


def _config(
    source: Source,
    document: dict[str, Any],
    size: tuple[int, int],
    attributes: tuple[str, ...],
    total: int,
) -> Config:
    """The configuration of the data set that comes out.

    The directions are those in which the recorded moves lead where they are recorded to.
    """
    path = source.root / "properties.json"
    properties = read_json(path) if path.is_file() else None
    config = load_config("trance")
    config["world"] = world_block(properties, str(path))
    if not attributes or "position" in attributes:
        config["world"]["directions"] = _directions(source, config["world"])
    ends = [document["states"][k]["images"] for k in (0, -1)]
    initial, final = (
        [c.removeprefix("Camera_").lower() for c in sorted(images)] for images in ends
    )
    config["preset"] = PRESET
    config["num_samples"] = total
    config["image"] = {"width": size[0], "height": size[1]}
    config["cameras"].update(initial=initial, final=final)
    config["render"].update(samples=RENDER["samples"], denoise=False)
    config["masks"] = False
    if attributes:
        config["transformations"]["attributes"] = list(attributes)
    check(config, "config", source.root)
    check_meaning(config, source.root)
    return config


def _directions(source: Source, world: dict[str, Any]) -> dict[str, Any]:
    """The first of the known tables that explains the first move that only one explains."""
    cells = round(world["step"] / world["grid"])
    tables = [world["directions"], FRONT_IS_AWAY, load_config("trance")["world"]["directions"]]
    for entry in source.entries():
        try:
            document = read_entry(entry)
        except DataError:
            continue
        agreeing = [table for table in tables if agrees(document, table, cells)]
        if agreeing and len({json.dumps(t, sort_keys=True) for t in agreeing}) == 1:
            return agreeing[0]
        tables = agreeing or tables
    return tables[0]


def read_entry(entry: Entry) -> dict[str, Any]:
    """The document of an entry.

    Raises:
        DataError: it is no sample of TRANCE.
    """
    document: dict[str, Any] = parse_json(entry.text(), entry.where)
    check(document, "trance", entry.where)
    return document


def _only(document: dict[str, Any], attributes: tuple[str, ...]) -> bool:
    return all(t["attr"] in attributes for t in document["transformations"])


def checked_plan(document: dict[str, Any], entry: Entry, world: World, config: Config) -> Plan:
    """The plan of a sample whose transformations lead from its first state to its last.

    Raises:
        DataError: they do not, or something is in it that this data set does not have.
    """
    where = entry.where
    ends = [document["states"][k] for k in (0, -1)]
    for name, state, expected in zip(
        ("first", "last"),
        ends,
        (config["cameras"]["initial"], config["cameras"]["final"]),
        strict=True,
    ):
        found = sorted(c.removeprefix("Camera_").lower() for c in state["images"])
        if found != expected:
            raise DataError(
                f"{where}: the {name} state has images from {', '.join(found) or 'nowhere'}, and "
                f"in the first sample from {', '.join(expected)}"
            )
    for t in document["transformations"]:
        value = t.get("val", t.get("target"))
        if isinstance(value, list) != (t["attr"] == "position"):
            raise DataError(f"{where}: {value!r} is no value of {t['attr']}")
    try:
        plan = read_plan(document, world, config)
    except TvrError as problem:
        raise DataError(f"{where}: cameras: {problem}") from None
    check_plan(plan, world, where)
    return plan

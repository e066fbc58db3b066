"""Making a data set of ours from the files of TRANCE. docs/formats.md says what becomes of what."""

import json
import platform
import re
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from star_tvr.generator.labels import image_labels
from star_tvr.generator.trance_sources import (
    RawSample,
    TranceSource,
    open_source,
    read_document,
)
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import ConfigError, DataError, ParameterError, TvrError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.rules import check_plan, violations
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.scenes.world import World
from star_tvr.schemas.card import write_card
from star_tvr.schemas.checks import parse_json
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import (
    Dataset,
    Manifest,
    commit_sample,
    dumps,
    remove_drafts,
    rendered,
)
from star_tvr.schemas.files import read_text, write_whole, writing
from star_tvr.schemas.folders import refuse_other, was_begun
from star_tvr.schemas.locks import lock_folder
from star_tvr.schemas.pictures import encode_png
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
class ImportResult:
    """What became of one sample; `message` is one line, empty where there is nothing to say."""

    kind: Kind
    message: str = ""


@dataclass
class Importer:
    """One import, prepared: `run` does it.

    Attributes:
        config: of the data set that comes out; `num_samples` as if every sample were taken.
        estimated: what the source does not say and the preset has to.
    """

    source: TranceSource
    out: Path
    attributes: tuple[str, ...]
    strict: bool
    total: int
    config: DatasetConfig
    estimated: tuple[str, ...]
    rules: Counter[str] = field(default_factory=Counter)

    def run(self) -> Generator[ImportResult, None, None]:
        """Import what is not there yet; yields what became of every sample.

        At the end the manifest counts what is there, and splits and card are written.

        Raises:
            ConfigError: another command writes to the target, or has begun something else there.
            DataError: the target cannot be written, or nothing could be imported.
        """
        with lock_folder(self.out), writing(self.out):
            self.refuse_other()  # whoever had the lock before may have begun something else
            write_whole(self.out / "dataset.json", dumps(self._manifest(self.total, {}).to_json()))
            done = set(rendered(self.out))
            drafts = (self.out / "samples").glob("*/.*")
            names = {draft.name.split(".")[1] for draft in drafts}
            remove_drafts(self.out, [name for name in names if re.fullmatch("[0-9]{6,18}", name)])
            seen: set[str] = set()
            members: dict[str, list[str]] = {}
            kinds: Counter[str] = Counter()
            for raw in self.source.samples():
                result, name = self._import(raw, self.config.world, done, seen)
                kinds[result.kind] += 1
                if result.kind in ("imported", "there"):
                    seen.add(name)
                    if raw.split is not None:
                        members.setdefault(raw.split, []).append(name)
                yield result
            self._finish(kinds, members)

    def refuse_other(self) -> None:
        """Raise ConfigError if the target was begun with something else, or holds it."""
        if was_begun(self.out, "dataset.json"):
            former, wanted = Dataset.open(self.out).manifest, self._manifest(self.total, {})
            refuse_other(self.out, _settings(former), _settings(wanted), free=("num_samples",))

    def _import(
        self, raw: RawSample, world: World, done: set[str], seen: set[str]
    ) -> tuple[ImportResult, str]:
        try:
            document = read_document(raw)
            if self.attributes and not _only(document, self.attributes):
                return ImportResult("other attributes"), ""
            plan = checked_plan(document, raw.where, world, self.config)
            if plan.id in seen:
                return ImportResult("damaged", f"{raw.where}: idx: {plan.id} is there twice"), ""
            broken = self._broken(plan, world)
            if broken and self.strict:
                return ImportResult("broken rule"), ""
            if plan.id not in done:
                commit_sample(self.out, plan.id, self._files(document, raw, plan, world))
            self.rules.update(broken)
            return ImportResult("there" if plan.id in done else "imported"), plan.id
        except DataError as problem:
            # What is wrong with a picture is said of the picture.
            where = "" if str(problem).startswith(raw.where) else f"{raw.where}: "
            return ImportResult("damaged", f"{where}{problem}"), ""

    def _broken(self, plan: Plan, world: World) -> set[str]:
        config = self.config
        size = (config.image.width, config.image.height)
        found = {v.rule for v in violations(plan, world, config.visibility.min_pixels, *size)}
        return found - ({"observable"} if "cameras" in self.estimated else set())

    def _files(
        self, document: dict[str, Any], raw: RawSample, plan: Plan, world: World
    ) -> dict[str, bytes]:
        names = {
            (state, our_camera(camera)): name
            for state, k in (("initial", 0), ("final", -1))
            for camera, name in document["states"][k]["images"].items()
        }
        size = (self.config.image.width, self.config.image.height)
        files: dict[str, bytes] = {}
        images = []
        for state_name, camera_name in plan.views:
            name = names[state_name, camera_name]
            picture = self.source.image(raw.split, name, size)
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
        left_out = {k: n for k, n in sorted(kinds.items()) if k not in ("imported", "there")}
        write_whole(self.out / "dataset.json", dumps(self._manifest(count, left_out).to_json()))
        dataset = Dataset.open(self.out)
        cameras = self.config.cameras
        for split, names in members.items():
            pairs = (Pair(n, i, f) for n in names for i in cameras.initial for f in cameras.final)
            dataset.write_split(f"trance/{split}", pairs)
        write_card(dataset)

    def _manifest(self, count: int, left_out: dict[str, int]) -> Manifest:
        versions = {"python": platform.python_version(), "star-tvr": version("star-tvr")}
        source = {
            "format": "trance",
            "form": self.source.form,
            "attributes": list(self.attributes),
            "strict": self.strict,
            "estimated": list(self.estimated),
            "left_out": left_out,
            "broken_rules": dict(sorted(self.rules.items())),
        }
        config = self.config.model_copy(update={"num_samples": count})
        return Manifest.of(config, versions, source)


def prepare_import(
    src: Path, out: Path, attributes: Sequence[str] = (), strict: bool = False
) -> Importer:
    """Recognise the source, and the target if an earlier run began it. Writes nothing.

    Args:
        src: a folder of TRANCE, or its `data.h5` or `data.jsonl`.
        attributes: take only samples that change no others; all where empty.
        strict: leave out samples that break a rule of ours.

    Raises:
        ConfigError: an attribute is unknown, or the target was made with something else or holds
            something else.
        DataError: the source is no TRANCE, or has no sample that can be read.
    """
    for name in attributes:
        if name not in ATTRIBUTES:
            message = f"is unknown; known are {', '.join(ATTRIBUTES)}"
            raise ParameterError("attributes", message, name)
    source = open_source(src)
    total = source.count()
    for raw in source.samples():
        try:
            document = read_document(raw)
            first = document["states"][0]["images"]
            size = source.image(raw.split, next(iter(first.values()))).size if first else None
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
    importer.refuse_other()
    return importer


def _settings(manifest: Manifest) -> dict[str, Any]:
    """What two runs of one import have in common."""
    source = manifest.source or {}
    return {**manifest.config.to_json(), "source": {k: source.get(k) for k in SETTINGS}}


def _config(
    source: TranceSource,
    document: dict[str, Any],
    size: tuple[int, int],
    attributes: tuple[str, ...],
    total: int,
) -> DatasetConfig:
    """The configuration of the data set that comes out.

    The directions are those in which the recorded moves lead where they are recorded to.
    """
    path = source.root / "properties.json"
    there = path.exists() or path.is_symlink()
    properties = parse_json(read_text(path, root=source.root), path) if there else None
    config = load_config("trance").to_json()
    config["world"] = world_block(properties, str(path))
    if not attributes or "position" in attributes:
        config["world"]["directions"] = _directions(source, config["world"])
    ends = [document["states"][k]["images"] for k in (0, -1)]
    initial, final = ([our_camera(c) for c in sorted(images)] for images in ends)
    config |= {"preset": PRESET, "num_samples": total, "masks": False}
    config["image"] = {"width": size[0], "height": size[1]}
    config["cameras"] |= {"initial": initial, "final": final}
    config["render"] |= {"samples": RENDER["samples"], "denoise": False}
    if attributes:
        config["transformations"]["attributes"] = list(attributes)
    try:
        return DatasetConfig.parse(config, str(source.root))
    except ConfigError as problem:
        raise DataError(str(problem)) from None


def _directions(source: TranceSource, world: dict[str, Any]) -> dict[str, Any]:
    """The first of the known tables that explains the first move that only one explains."""
    cells = round(world["step"] / world["grid"])
    tables = [
        world["directions"],
        FRONT_IS_AWAY,
        load_config("trance").world.to_json()["directions"],
    ]
    for raw in source.samples():
        try:
            document = read_document(raw)
        except DataError:
            continue
        agreeing = [table for table in tables if agrees(document, table, cells)]
        if agreeing and len({json.dumps(t, sort_keys=True) for t in agreeing}) == 1:
            return agreeing[0]
        tables = agreeing or tables
    return tables[0]


def _only(document: dict[str, Any], attributes: tuple[str, ...]) -> bool:
    return all(t["attr"] in attributes for t in document["transformations"])


def checked_plan(document: dict[str, Any], where: str, world: World, config: DatasetConfig) -> Plan:
    """The plan of a sample whose transformations lead from its first state to its last.

    Raises:
        DataError: they do not, or something is in it that this data set does not have.
    """
    ends = [document["states"][k] for k in (0, -1)]
    for name, state, expected in zip(
        ("first", "last"),
        ends,
        (config.cameras.initial, config.cameras.final),
        strict=True,
    ):
        found = sorted(map(our_camera, state["images"]))
        if found != list(expected):
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

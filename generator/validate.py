"""Checking a data set: every finding is one line that names the sample and the field."""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_tvr.generator.appearance import check_appearance
from star_tvr.generator.difficulty import difficulty
from star_tvr.generator.labels import image_labels
from star_tvr.generator.plan_files import read_jobs
from star_tvr.scenes.config import LightsConfig
from star_tvr.scenes.errors import DataError, TvrError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.rules import Violation, violations
from star_tvr.scenes.sampler import DRAWS_APART
from star_tvr.scenes.seeds import derive, sample_seed
from star_tvr.scenes.states import visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.scenes.world import World
from star_tvr.schemas.checks import parse_json
from star_tvr.schemas.dataset import Dataset, expected_views, is_sample
from star_tvr.schemas.files import read_text
from star_tvr.schemas.pictures import decode_png
from star_tvr.schemas.records import Image, Pair, Sample, plan_from_json, plan_to_json

MODES = {"path": "RGB", "mask": "L", "depth": "I;16", "normals": "RGB", "blend": None}
"""The files of an image, and the mode that those must have which are pictures."""

LEAST_OVERLAP = 0.9
"""Intersection over union that a mask and the computed silhouettes must reach, for objects of at
least `LEAST_PIXELS` pixels."""

LEAST_PIXELS = 150

TOLERANCES = {"bbox": 0.0, "pixels": 0.0, "visibility": 0.02, "center": 0.01, "depth": 1e-4}
"""By how much a stored label may differ from the one computed again. Visibility has a computed
denominator, which later versions may compute a little better."""


DIFFICULTY_TOLERANCE = 1e-3
"""By how much a difficulty, stored with four decimals, may differ on another machine."""

LONGEST = 500
"""Characters of a message that are shown; it may hold a value of any length."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where, and what."""

    sample: str
    field: str
    message: str

    def __str__(self) -> str:
        more = " …" if len(self.message) > LONGEST else ""
        return f"{self.sample}: {self.field}: {self.message[:LONGEST]}{more}"

    def to_json(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)


def validate(
    dataset: Dataset, pixels: bool = False, workers: int = 1
) -> Iterator[tuple[str, list[Finding]]]:
    """Check every sample, then the data set as a whole; yields (what was checked, findings).

    Of a data set that was only planned, the plans are checked in their place.

    Args:
        pixels: also compare masks with silhouettes computed from the geometry, and judge by the
            pixels whether objects look as the answer says.
        workers: processes.

    Raises:
        DataError: a folder of samples cannot be read.
        TvrError: a process was killed.
    """
    ids = dataset.ids()
    check = partial(_check_alone, str(dataset.root), pixels)
    owner: dict[str, str] = {}
    views: dict[str, frozenset[ImageKey]] = {}
    rated: dict[Pair, float] = {}
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            results = pool.map(check, ids, chunksize=8) if workers > 1 else map(check, ids)
            for sample_id, result in zip(ids, results, strict=True):
                findings, scene, views[sample_id], difficulties = result
                rated |= difficulties
                if scene is not None and owner.setdefault(scene, sample_id) != sample_id:
                    findings.append(Finding(sample_id, "states", f"same scene as {owner[scene]}"))
                yield sample_id, findings
    except BrokenProcessPool:
        raise TvrError(
            f"{dataset.root}: a process that checked samples was killed, perhaps for want of "
            "memory; lower workers"
        ) from None
    planned = 0
    for sample_id, findings in () if ids else _check_plans(dataset):
        planned += 1
        yield sample_id, findings
    yield "data set", [*_check_folders(dataset), *_check_counts(dataset, planned)]
    yield "splits", list(_check_splits(dataset, views, rated))


ImageKey = tuple[str, str]
"""State and camera of an image."""


def _check_alone(
    root: str, pixels: bool, sample_id: str
) -> tuple[list[Finding], str | None, frozenset[ImageKey], dict[Pair, float]]:
    """What a worker does: findings, a digest of the initial scene, its images, its difficulties.

    Of a sample that cannot be read there is no digest, and no image; a wrong one has no difficulty.
    """
    dataset = _open(root)
    try:
        sample = dataset.sample(sample_id)
    except DataError as problem:
        message = str(problem).removeprefix(f"{dataset.folder(sample_id)}/")
        return [Finding(sample_id, "sample.json", message)], None, frozenset(), {}
    scene = hashlib.blake2b(repr(sample.plan.initial).encode(), digest_size=16).hexdigest()
    views = frozenset((image.state, image.camera) for image in sample.images)
    findings = check_sample(dataset, sample_id, sample, pixels)
    pairs = [] if findings else sample.pairs()
    return findings, scene, views, {p: difficulty(sample, p, dataset.world) for p in pairs}


def _check_plans(dataset: Dataset) -> Iterator[tuple[str, list[Finding]]]:
    """Every plan of a data set without samples: its number, and what is wrong with it.

    A file that cannot be read is one finding about the file.
    """
    image, known = dataset.config.image, set()
    for path in sorted((dataset.root / "plans").glob("*.jsonl")):
        try:
            documents = [job.plan or {} for job in read_jobs(path, dataset.world, dataset.root)]
        except DataError as problem:
            message = str(problem).removeprefix(str(path))
            yield "plans", [Finding("data set", f"plans/{path.name}", message.lstrip(",: "))]
            continue
        for document in documents:
            plan = plan_from_json(document)
            found = [*_check_identity(dataset, plan)]
            found += _check_lamps(dataset.config.lights, list(plan.lights))
            found += [(f"rule {v.rule}", v.detail) for v in _broken_rules(dataset, plan)]
            found += _underived(document, plan, dataset.world, image.width, image.height)
            if plan.id in known:
                found.append(("id", "is planned twice"))
            known.add(plan.id)
            yield plan.id, [Finding(plan.id, *f) for f in found]


@lru_cache(1)
def _open(root: str) -> Dataset:
    return Dataset.open(root)


def check_sample(
    dataset: Dataset, sample_id: str, sample: Sample, pixels: bool = False
) -> list[Finding]:
    """All findings about one sample that can be read."""
    folder = dataset.folder(sample_id)

    def finding(field: str, message: str) -> Finding:
        return Finding(sample_id, field, message)

    findings = [finding(*f) for f in _check_origin(dataset, sample_id, sample)]
    for what, names in (
        ("image", [f"{image.state}-{image.camera}" for image in sample.images]),
        ("file", [name for image in sample.images for name in image.files]),
    ):
        findings += [finding("images", f"the {what} {n} is listed twice") for n in _twice(names)]
    try:
        findings += [
            finding(f"rule {v.rule}", v.detail) for v in _broken_rules(dataset, sample.plan)
        ]
        findings += _check_stored_values(dataset, sample_id, sample)
    except (TvrError, KeyError, IndexError) as problem:
        findings.append(finding("states", f"an object or value does not exist ({problem})"))
        return findings
    pictures: dict[tuple[str, str], tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}
    for image in sample.images:
        decoded: dict[str, NDArray[Any]] = {}
        for field, mode in MODES.items():
            if (name := getattr(image, field)) is not None:
                found = _decode(dataset, sample_id, image, name, mode)
                if isinstance(found, str):
                    findings.append(finding(f"{image.state}-{image.camera}: {name}", found))
                else:
                    decoded[field] = found
        mask = decoded.get("mask")
        if mask is not None or image.mask is None:
            depth = decoded.get("depth")
            findings += _check_labels(dataset, sample, image, mask, depth, pixels)
        if mask is not None and "path" in decoded:
            pictures[image.state, image.camera] = (decoded["path"], mask)
    if pixels and not findings:  # looks are judged by labels that are in order
        findings += [finding(*f) for f in check_appearance(sample, dataset.world, pictures)]
    expected = {"sample.json", *(name for image in sample.images for name in image.files)}
    for name in sorted({p.name for p in folder.iterdir()} - expected):
        findings.append(finding(name, "is not mentioned in sample.json"))
    return findings


def _check_origin(dataset: Dataset, sample_id: str, sample: Sample) -> Iterator[tuple[str, str]]:
    """Whether a sample is one of this data set, as far as its configuration says."""
    if sample.id != sample_id:
        yield "id", f"is {sample.id}, but the folder is called {sample_id}"
    yield from _check_lamps(dataset.config.lights, list(sample.plan.lights))
    if dataset.manifest.source is not None:
        return  # imported: made by other means than the configuration
    yield from _check_identity(dataset, replace(sample.plan, id=sample_id))
    config = dataset.config
    size = (config.image.width, config.image.height)
    views = set()
    for image in sample.images:
        name = f"{image.state}-{image.camera}"
        views.add((image.state, image.camera))
        if (image.width, image.height) != size:
            yield f"{name}: width, height", f"are {image.width} x {image.height}, not {size}"
        if (image.mask is not None) != config.masks:
            yield f"{name}: mask", "is missing" if config.masks else "is there unasked"
    for state, camera in sorted(expected_views(config) - views):
        yield "images", f"{state}-{camera} is missing"


def _check_lamps(lights: LightsConfig, there: Collection[str]) -> Iterator[tuple[str, str]]:
    """Whether there are as many lamps as the configuration has, of its names."""
    least, most = lights.vary.count or (len(lights.lamps), len(lights.lamps))
    if not least <= len(there) <= most:
        wanted = f"{least} to {most}" if least < most else f"{least}"
        yield "lights", f"are {len(there)}, and the data set's configuration has {wanted}"
    elif strange := set(there) ^ set(lights.names(len(there))):
        yield "lights", f"are not those of the configuration: {', '.join(sorted(strange))}"


def _check_identity(dataset: Dataset, plan: Plan) -> Iterator[tuple[str, str]]:
    """Whether a plan is the one of its number, as far as preset and seed say."""
    config = dataset.config
    if plan.preset != config.preset:
        yield "preset", f"is {plan.preset}, but the data set's is {config.preset}"
    seed = sample_seed(config.scene_seed, int(plan.id) + plan.draw * DRAWS_APART)
    if dataset.manifest.schema_version == 1:
        seed = derive(config.seed, "sample", int(plan.id))
    if plan.seed != seed:
        yield "seed", "does not follow from the data set's seed and the number of the sample"


def _broken_rules(dataset: Dataset, plan: Plan) -> Iterator[Violation]:
    config = dataset.config
    return violations(
        plan,
        dataset.world,
        config.visibility.min_pixels,
        config.image.width,
        config.image.height,
    )


def _check_stored_values(dataset: Dataset, sample_id: str, sample: Sample) -> Iterator[Finding]:
    """Everything in sample.json that follows from the rest of it must do so."""
    for before, after in zip(sample.plan.initial, sample.plan.final, strict=False):
        if before.rotation != after.rotation:
            field = f"states.final.objects.{after.index}.rotation"
            yield Finding(sample_id, field, f"is {after.rotation}, and was {before.rotation}")
    stored = parse_json(dataset.text(sample_id), dataset.folder(sample_id) / "sample.json")
    version, least = stored["schema_version"], dataset.manifest.schema_version
    if version < least:
        yield Finding(
            sample_id, "schema_version", f"is {version}, and that of dataset.json {least}"
        )
    image = sample.images[0]
    for found in _underived(stored, sample.plan, dataset.world, image.width, image.height):
        yield Finding(sample_id, *found)


def _underived(
    stored: Mapping[str, Any], plan: Plan, world: World, width: int, height: int
) -> Iterator[tuple[str, str]]:
    """The fields of a stored plan that do not follow from the others."""
    derived = plan_to_json(plan, world, width, height)
    if stored["schema_version"] == 1:
        for transformation in derived["transformations"]:
            transformation.pop("equivalents", None)
    for key in ("states", "transformations", "answer", "cameras"):
        if stored[key] != derived[key]:
            yield key, "does not follow from the rest of sample.json"


def _check_labels(
    dataset: Dataset,
    sample: Sample,
    image: Image,
    mask: NDArray[np.uint8] | None,
    depth: NDArray[np.uint16] | None,
    pixels: bool,
) -> Iterator[Finding]:
    """Boxes, counts, visibility, centres, depths and relations against mask and geometry.

    The surface that a depth file has of an object is no farther from its middle than its size.

    Without a mask, what can only be counted in one is not checked.
    """

    def finding(field: str, message: str) -> Finding:
        return Finding(sample.id, f"{image.state}-{image.camera}: {field}", message)

    state = sample.plan.state(image.state, dataset.world)
    objects = visible_objects(state, dataset.world)
    camera = sample.plan.cameras[image.camera]
    fields = TOLERANCES if mask is not None else {k: TOLERANCES[k] for k in ("center", "depth")}
    if mask is None:
        mask, pixels = np.zeros((image.height, image.width), dtype=np.uint8), False
    unknown = sorted(set(np.unique(mask).tolist()) - {0, *(o.index + 1 for o in objects)})
    if unknown:
        yield finding(image.mask or "mask", f"holds {unknown}, which are not objects of this state")
    true = image_labels(mask, image.state, state, image.camera, camera, dataset.world, True)
    listed, there = [o.index for o in image.objects], [o.index for o in true.objects]
    if listed != there:
        yield finding("objects", f"lists {listed}, not {there}")
        return
    for here, expected in zip(image.objects, true.objects, strict=True):
        for field, tolerance in fields.items():
            said, found = getattr(here, field), getattr(expected, field)
            if not _close(said, found, tolerance):
                yield finding(
                    f"objects.{here.index}.{field}", f"says {said}; mask and geometry say {found}"
                )
    for obj, labels in zip(objects, true.objects, strict=True):
        steps = np.empty(0) if depth is None else depth[mask == labels.index + 1]
        steps = steps[steps > 0]  # 0 is out of reach
        away = float(np.median(steps) if steps.size else 0) * (image.depth_scale or 0.0)
        size = math.hypot(1, dataset.world.shapes[obj.shape].half_height)
        if steps.size and abs(away - labels.depth) > size * obj.radius(dataset.world):
            yield finding(
                f"objects.{labels.index}.depth",
                f"is {labels.depth:.2f}, and {image.depth} times depth_scale says {away:.2f}",
            )
    if image.relations != true.relations:
        yield finding("relations", "do not follow from positions and camera")
    if not pixels:
        return
    for index, overlap in mask_overlaps(dataset.world, sample, image, mask):
        if overlap < LEAST_OVERLAP:
            message = f"mask and geometry overlap by {overlap:.2f} only (at least {LEAST_OVERLAP})"
            yield finding(f"objects.{index}", message)


def mask_overlaps(
    world: World, sample: Sample, image: Image, mask: NDArray[np.uint8]
) -> Iterator[tuple[int, float]]:
    """Objects of at least `LEAST_PIXELS`, and how well their mask agrees with what is computed.

    That is the intersection of both over their union.
    """
    objects = visible_objects(sample.plan.state(image.state, world), world)
    camera = sample.plan.cameras[image.camera]
    view = rasterize(objects, camera, world, image.width, image.height)
    for k, obj in enumerate(objects):
        inside = mask == obj.index + 1
        if inside.sum() >= LEAST_PIXELS:
            yield obj.index, _overlap(inside, view.ids == k)


def _close(first: Any, second: Any, tolerance: float) -> bool:
    """Whether two labels agree: boxes and centres in every coordinate."""
    if first is None or second is None:
        return first is second
    return bool(np.allclose(first, second, rtol=0.0, atol=tolerance))


def _overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


def _decode(
    dataset: Dataset, sample_id: str, image: Image, name: str, mode: str | None
) -> NDArray[Any] | str:
    """The pixels of a picture, or the bytes of another file; or what is wrong with the file."""
    path = dataset.folder(sample_id) / name
    if not path.exists() and not path.is_symlink():
        return "is missing"
    try:
        content = dataset.picture(sample_id, name)
        if mode is None:
            return np.frombuffer(content, np.uint8)
        return np.asarray(decode_png(content, path, mode, (image.width, image.height)))
    except DataError as problem:
        return str(problem).removeprefix(f"{path}: ").replace("the image is", "cannot be decoded:")


def _twice(names: Iterable[Any]) -> list[Any]:
    """What is there more than once, in order."""
    return [name for name, number in Counter(names).items() if number > 1]


def _check_folders(dataset: Dataset) -> Iterator[Finding]:
    """Files and folders only; every sample is a folder of its own in the place of its number."""

    def finding(path: Path, message: str) -> Finding:
        return Finding("data set", str(path.relative_to(dataset.root)), message)

    places = [dataset.root, *(dataset.root / name for name in ("splits", "plans"))]
    places += sorted((dataset.root / "splits").glob("*"))
    for path in (path for place in places if place.is_dir() for path in sorted(place.iterdir())):
        if path.is_symlink():
            yield finding(path, "is a link; a data set holds its own files")
        elif not path.is_dir() and not path.is_file():
            yield finding(path, "is no ordinary file")
    for parent in sorted((dataset.root / "samples").glob("*")):
        for path in [parent, *(sorted(parent.glob("[!.]*")) if parent.is_dir() else [])]:
            if path.is_symlink():
                yield finding(path, "is a link; a data set holds its own files")
            elif not path.is_dir():
                yield finding(path, "is no folder")
            elif path != parent and not is_sample(dataset.root, path):
                yield finding(path, "is not where a sample of this name belongs")


def _check_counts(dataset: Dataset, planned: int) -> Iterator[Finding]:
    """As many samples as the manifest says, and as many images as its configuration does."""
    counts, there = dataset.manifest.counts, len(dataset.ids())
    if planned and planned != counts["samples"]:
        message = f"{planned} of {counts['samples']} plans are there; run tvr render --plan-only"
        yield Finding("data set", "dataset.json: counts.samples", message)
    elif not planned and there != counts["samples"]:
        yield Finding(
            "data set",
            "dataset.json: counts.samples",
            f"{there} of {counts['samples']} samples are there; run tvr render",
        )
    images = counts["samples"] * len(expected_views(dataset.config))
    if dataset.manifest.source is None and counts.get("images", images) != images:
        message = f"says {counts['images']}, not {images}"
        yield Finding("data set", "dataset.json: counts.images", message)


def _check_splits(
    dataset: Dataset, views: Mapping[str, frozenset[ImageKey]], rated: Mapping[Pair, float]
) -> Iterator[Finding]:
    """Known samples and cameras only, each pair once, and no scene in two splits of a scheme.

    A difficulty that a line has is that of its pair.
    """
    owner: dict[tuple[str, str], str] = {}
    counts: dict[str, int] = {}
    for name in dataset.split_names():
        scheme = name.split("/")[0]
        paired = name == "cross-view/test_ood" and _is_paired(dataset)
        try:
            pairs = dataset.split(name)
        except DataError as problem:
            yield Finding("data set", f"splits/{name}", str(problem))
            continue
        counts[name] = len(pairs)
        if not pairs:
            yield Finding("data set", f"splits/{name}", "is empty; run tvr split again")
        for pair, said in dataset.difficulties(name).items():
            if abs(rated.get(pair, said) - said) > DIFFICULTY_TOLERANCE:
                message = f"difficulty is {said}, not {rated[pair]}; run tvr split again"
                yield Finding(pair.sample, f"splits/{name}", message)
        for pair in _twice(pairs):
            views_of = f"{pair.initial} to {pair.final}"
            yield Finding(pair.sample, f"splits/{name}", f"{views_of} is there twice")
        for pair in pairs:
            if pair.sample not in views:
                yield Finding(pair.sample, f"splits/{name}", "is not in the data set")
                continue
            first = owner.setdefault((scheme, pair.sample), name)
            if first != name and not (paired and first == "cross-view/test_id"):
                yield Finding(pair.sample, f"splits/{name}", f"is also in {first}")
            images = views[pair.sample]  # none if it cannot be read, which is reported with it
            for view in (("initial", pair.initial), ("final", pair.final)):
                if images and view not in images:
                    yield Finding(pair.sample, f"splits/{name}", f"has no image {'-'.join(view)}")
    for path in sorted((dataset.root / "splits").glob("*/scheme.json")):
        yield from _check_scheme(dataset, path, counts)


def _is_paired(dataset: Dataset) -> bool:
    """Whether test_id and test_ood of cross-view are to have the same scenes."""
    path = dataset.root / "splits" / "cross-view" / "scheme.json"
    try:
        document = parse_json(read_text(path, root=dataset.root), path)
    except DataError:  # which is a finding of its own
        return False
    return isinstance(document, dict) and document.get("paired") is True


def _check_scheme(dataset: Dataset, path: Path, counts: Mapping[str, int]) -> Iterator[Finding]:
    """As many pairs in every split as `scheme.json` says that `tvr split` wrote."""
    where = str(path.relative_to(dataset.root))
    try:
        document = parse_json(read_text(path, root=dataset.root), where)
    except DataError as problem:
        yield Finding("data set", where, str(problem).removeprefix(f"{where}: "))
        return
    said = document.get("pairs") if isinstance(document, dict) else None
    if not isinstance(said, dict):
        yield Finding("data set", where, "has no pairs; run tvr split again")
        return
    for name, number in said.items():
        split = f"{path.parent.name}/{name}"
        if split not in dataset.split_names():
            yield Finding("data set", f"splits/{split}", "is missing; run tvr split again")
        elif counts.get(split, number) != number:
            message = f"has {counts[split]} pairs, and {where} says {number}; run tvr split again"
            yield Finding("data set", f"splits/{split}", message)

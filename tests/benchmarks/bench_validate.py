"""How often `validate --pixels` calls intact samples wrong, and how often it finds damage.

Checks the samples of data sets as they are, and then copies of each, damaged in one way at a time:
a picture or the labels are changed, and everything that follows from masks and labels is made to
agree, so that only the look of things can tell.

for p in star trance basic event view random-view orbit varied proof; do
    tvr render looks/$p --config $p --num-samples 100 --set image.width=160 --set image.height=120
done
python tests/benchmarks/bench_validate.py looks/*
"""

import argparse
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import beta, genpareto

from star_tvr.generator.appearance import judge_appearance
from star_tvr.generator.labels import image_labels
from star_tvr.generator.validate import LEAST_OVERLAP, Finding, check_sample, mask_overlaps
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.seeds import stream
from star_tvr.scenes.transformations import apply
from star_tvr.schemas.dataset import Dataset, dumps
from star_tvr.schemas.pictures import encode_mask, encode_png
from star_tvr.schemas.records import Image, Sample

LEAST_PIXELS = 80
"""Visible pixels, counted at 320 x 240, of objects that are damaged."""

SEEN = 0.95
"""Least visibility of objects whose picture is damaged."""

REPEATS = 200
"""Samples with replacement from which the uncertainty of a tail is read."""

Bytes = NDArray[np.uint8]
Views = dict[tuple[str, str], tuple[Bytes, Bytes]]
"""(picture, mask) of every (state, camera)."""


class Impossible(Exception):
    """The sample has nothing that could be damaged like this."""


def seen_objects(dataset: Dataset, sample: Sample, rng: np.random.Generator) -> list[int]:
    """Objects that the initial and the final picture of the same camera show well, at random."""
    image = dataset.config.image
    least = LEAST_PIXELS * image.width * image.height / (320 * 240)
    good: list[int] = []
    for camera in {i.camera for i in sample.images if i.state == "initial"}:
        if ("final", camera) in {(i.state, i.camera) for i in sample.images}:
            both = [sample.image(state, camera).objects for state in ("initial", "final")]
            shown = [
                {o.index for o in objects if o.pixels >= least and o.visibility >= SEEN}
                for objects in both
            ]
            good += sorted(shown[0] & shown[1])
    return rng.permutation(good).tolist()


def relabelled(
    dataset: Dataset, sample: Sample, views: Views, changes: Mapping[int, Mapping[str, Any]]
) -> Sample:
    """The sample with other initial attributes of some objects, and all that follows."""
    initial = tuple(replace(o, **changes.get(o.index, {})) for o in sample.plan.initial)
    return with_plan(dataset, sample, views, replace(sample.plan, initial=initial))


def with_plan(dataset: Dataset, sample: Sample, views: Views, plan: Plan) -> Sample:
    """The sample with another plan: final state and labels follow from it and from the masks."""
    final = plan.initial
    for t in plan.transformations:
        if t.attribute != "position" and getattr(final[t.object], t.attribute) == t.value:
            raise Impossible
        final = apply(final, t, dataset.world)
    final = tuple(
        replace(o, rotation=p.rotation) for o, p in zip(final, sample.plan.final, strict=True)
    )
    plan = replace(plan, final=final)
    images = []
    for image in sample.images:
        mask = views[image.state, image.camera][1]
        state, camera = plan.state(image.state, dataset.world), plan.cameras[image.camera]
        images.append(
            image_labels(mask, image.state, state, image.camera, camera, dataset.world, True)
        )
    return replace(sample, plan=plan, images=tuple(images))


def other(values: tuple[str, ...], value: str, rng: np.random.Generator) -> str:
    """Another value, at random."""
    return str(rng.choice([v for v in values if v != value]))


def wrong_everywhere(attribute: str) -> Callable[..., tuple[Sample, Views]]:
    """Another value of an object that does not change in it, in the labels of all pictures."""

    def damage(
        dataset: Dataset, sample: Sample, views: Views, rng: np.random.Generator
    ) -> tuple[Sample, Views]:
        touched = {t.object for t in sample.plan.transformations if t.attribute == attribute}
        for index in seen_objects(dataset, sample, rng):
            if index not in touched:
                value = getattr(sample.plan.initial[index], attribute)
                value = other(dataset.world.values(attribute), value, rng)
                return relabelled(dataset, sample, views, {index: {attribute: value}}), views
        raise Impossible

    return damage


def wrong_value(
    dataset: Dataset, sample: Sample, views: Views, rng: np.random.Generator
) -> tuple[Sample, Views]:
    """Another color than the one that an object really turned."""
    good = seen_objects(dataset, sample, rng)
    for k, t in enumerate(sample.plan.transformations):
        if t.attribute == "color" and t.object in good:
            before = sample.plan.initial[t.object].color
            left = tuple(c for c in dataset.world.values("color") if c != before)
            changes = list(sample.plan.transformations)
            changes[k] = replace(t, value=other(left, t.value, rng))
            plan = replace(sample.plan, transformations=tuple(changes))
            return with_plan(dataset, sample, views, plan), views
    raise Impossible


def left_out(attribute: str) -> Callable[..., tuple[Sample, Views]]:
    """A change that the pictures show and the labels do not."""

    def damage(
        dataset: Dataset, sample: Sample, views: Views, rng: np.random.Generator
    ) -> tuple[Sample, Views]:
        changes = sample.plan.transformations
        good = seen_objects(dataset, sample, rng)
        for t in changes:
            alone = sum(u.object == t.object for u in changes) == 1
            if t.attribute == attribute and alone and t.object in good and len(changes) > 1:
                plan = replace(sample.plan, transformations=tuple(u for u in changes if u != t))
                return with_plan(dataset, sample, views, plan), views
        raise Impossible

    return damage


def painted(
    sample: Sample, views: Views, index: int, paint: Callable[[Views, str, Bytes], Bytes]
) -> Views:
    """The views with an object painted over in the final picture of an initial camera."""
    camera = next(i.camera for i in sample.images if i.state == "initial")
    picture, mask = views["final", camera]
    inside = mask == index + 1
    result = picture.copy()
    result[inside] = paint(views, camera, picture)[inside]
    return {**views, ("final", camera): (result, mask)}


def not_done(
    dataset: Dataset, sample: Sample, views: Views, rng: np.random.Generator
) -> tuple[Sample, Views]:
    """A change of color or material that the picture does not show."""
    good = seen_objects(dataset, sample, rng)
    changes = sample.plan.transformations
    for t in changes:
        alone = sum(u.object == t.object for u in changes) == 1
        if t.attribute in ("color", "material") and alone and t.object in good:
            return sample, painted(sample, views, t.object, lambda v, c, p: v["initial", c][0])
    raise Impossible


def missing(
    dataset: Dataset, sample: Sample, views: Views, rng: np.random.Generator
) -> tuple[Sample, Views]:
    """An object in whose place the picture shows the ground."""
    for index in seen_objects(dataset, sample, rng):

        def ground(views: Views, camera: str, picture: Bytes) -> Bytes:
            around = picture[views["final", camera][1] == 0]
            return np.broadcast_to(np.median(around, axis=0).astype(np.uint8), picture.shape)

        return sample, painted(sample, views, index, ground)
    raise Impossible


def swapped(
    dataset: Dataset, sample: Sample, views: Views, rng: np.random.Generator
) -> tuple[Sample, Views]:
    """Initial and final picture of one camera in each other's place."""
    camera = next(i.camera for i in sample.images if i.state == "initial")
    if ("final", camera) not in views:
        raise Impossible
    (a, first), (b, second) = views["initial", camera], views["final", camera]
    return sample, {**views, ("initial", camera): (b, first), ("final", camera): (a, second)}


DAMAGES: Mapping[str, Callable[..., tuple[Sample, Views]]] = {
    "wrong color in all labels": wrong_everywhere("color"),
    "wrong material in all labels": wrong_everywhere("material"),
    "wrong shape in all labels": wrong_everywhere("shape"),
    "wrong size in all labels": wrong_everywhere("size"),
    "turned another color": wrong_value,
    "change of color left out": left_out("color"),
    "change of material left out": left_out("material"),
    "change of shape left out": left_out("shape"),
    "change of size left out": left_out("size"),
    "change not in the picture": not_done,
    "missing object": missing,
    "swapped pictures": swapped,
}


def findings_of(dataset: Dataset, sample: Sample, views: Views, root: Path) -> list[Finding]:
    """What validation says of a sample that is written to a folder of its own."""
    shutil.copy(dataset.root / "dataset.json", root)
    copy = Dataset.open(root)
    folder = copy.folder(sample.id)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "sample.json").write_text(dumps(sample.to_json(dataset.world)))
    for image in sample.images:
        for name, pixels in zip(
            (image.path, image.mask), views[image.state, image.camera], strict=True
        ):
            encode = encode_mask if name == image.mask else encode_png
            (folder / str(name)).write_bytes(encode(pixels))
    return check_sample(copy, sample.id, sample, pixels=True)


def read_views(dataset: Dataset, sample: Sample) -> Views:
    """All pictures and masks of a sample."""

    def pixels(image: Image, name: str | None) -> Bytes:
        return np.asarray(PIL.Image.open(dataset.folder(image_id) / str(name)))

    image_id = sample.id
    return {(i.state, i.camera): (pixels(i, i.path), pixels(i, i.mask)) for i in sample.images}


def upper(found: int, tried: int) -> float:
    """Upper end of the 95 % interval of a share (Clopper and Pearson; one-sided for none)."""
    if found == tried:
        return 1.0
    return float(beta.ppf(0.95 if found == 0 else 0.975, found + 1, tried - found))


def judged(dataset: Dataset, sample: Sample, views: Views) -> Iterator[tuple[str, float]]:
    """Every judgement of an intact sample: what was judged, and how near it is to wrong, 1."""
    world = dataset.world
    for found in judge_appearance(sample, world, views):
        yield found.kind, found.strength
    for image in sample.images:
        mask = views[image.state, image.camera][1]
        for _, overlap in mask_overlaps(world, sample, image, mask):
            yield "mask", (1 - overlap) / (1 - LEAST_OVERLAP)


def tails(strengths: Mapping[str, list[float]], samples: int) -> Table:
    """How often each kind of judgement would be wrong, from the tail of its strengths.

    A generalized Pareto distribution is fitted to the largest of them (Pickands 1975), and again
    to samples of them with replacement, of which the 95 % quantile is shown.
    """
    table = Table("judged", "number", "99 %", "99.9 %", "largest", "wrong in a sample", "at most")
    rng = np.random.default_rng(0)
    total = np.zeros(1 + REPEATS)
    for kind, values in sorted(strengths.items()):
        all_of = np.array(values)
        rates = [
            wrong_in_tail(all_of if k == 0 else rng.choice(all_of, len(all_of))) * len(all_of)
            for k in range(1 + REPEATS)
        ]
        rates_of = np.array(rates) / samples
        total += rates_of
        shown = (*np.quantile(all_of, (0.99, 0.999)), all_of.max())
        ends = (rates_of[0], np.quantile(rates_of[1:], 0.95))
        table.add_row(
            kind, str(len(all_of)), *(f"{v:.2f}" for v in shown), *(f"{v:.1e}" for v in ends)
        )
    ends = (total[0], np.quantile(total[1:], 0.95))
    table.add_row("all", "", "", "", "", *(f"{v:.1e}" for v in ends))
    return table


def wrong_in_tail(strengths: NDArray[np.float64]) -> float:
    """The probability of a strength above 1, from a Pareto tail of the largest ones."""
    number = min(len(strengths) // 2, max(50, len(strengths) // 50))
    ordered = np.sort(strengths)
    start, above = ordered[-number - 1], ordered[-number:] - ordered[-number - 1]
    if start >= 1:
        return float(np.mean(strengths > 1))
    shape, _, scale = genpareto.fit(above, floc=0)
    return float(number / len(strengths) * genpareto.sf(1 - start, shape, scale=scale))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--intact", action="store_true", help="damage nothing")
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    asked = parser.parse_args()
    console = Console(width=110)
    found: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    strengths: dict[str, list[float]] = defaultdict(list)
    samples = false = 0
    table = Table("data set", "samples", "pictures", "objects", "called wrong", "at most")
    for root in asked.datasets:
        dataset = Dataset.open(root)
        wrong = pictures = objects = count = 0
        with tempfile.TemporaryDirectory() as folder:
            for sample in dataset.samples():
                views = read_views(dataset, sample)
                count, samples = count + 1, samples + 1
                for kind, strength in judged(dataset, sample, views):
                    strengths[kind].append(strength)
                pictures += len(views)
                objects += sum(o.pixels > 0 for i in sample.images for o in i.objects)
                lines = check_sample(dataset, sample.id, sample, pixels=True)
                for line in lines:
                    console.print(f"{root.name} {line}", highlight=False)
                if lines:
                    wrong += 1
                for name, damage in () if lines or asked.intact else DAMAGES.items():
                    rng = stream(0, "damage", name, root.name, int(sample.id))
                    try:
                        damaged, changed = damage(dataset, sample, views, rng)
                    except Impossible:
                        continue
                    tried[name] += 1
                    found[name] += bool(findings_of(dataset, damaged, changed, Path(folder)))
        false += wrong
        most = f"{upper(wrong, count):.2%}"
        table.add_row(root.name, *map(str, (count, pictures, objects, wrong)), most)
    most = f"{upper(false, samples):.2%}"
    table.add_row("all", str(samples), "", "", str(false), most)
    console.print(table)
    console.print(tails(strengths, samples))
    table = Table("damage", "found", "of", "share")
    for name in DAMAGES:
        table.add_row(
            name, str(found[name]), str(tried[name]), f"{found[name] / max(1, tried[name]):.1%}"
        )
    console.print(table)


if __name__ == "__main__":
    main()

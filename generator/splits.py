"""Dividing a data set into splits. Every scheme is by scene: no scene is in two of its splits.

Scenes are drawn so that every split has its share of every number of visible objects, number of
transformations and attribute that changes. Paired test splits have the same scenes on purpose.
docs/splits.md describes the schemes and the difficulty.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star_tvr.generator.split_schemes import (
    SCHEMES,
    RatedPair,
    Scene,
    SplitOptions,
    SplitSpec,
    scene_of,
)
from star_tvr.scenes.errors import ConfigError, ParameterError
from star_tvr.scenes.seeds import derive
from star_tvr.scenes.world import World
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.files import make_folder, refuse_links, sync_folder, writing
from star_tvr.schemas.locks import brief_lock
from star_tvr.schemas.records import Pair


@dataclass(frozen=True)
class Division:
    """A data set divided.

    Attributes:
        options: how.
        splits: the pairs of each split, by sample.
        decided: what the scheme chose by itself, or was told: bins, numbers, combinations.
        unused: number of scenes in no split.
    """

    options: SplitOptions
    splits: Mapping[str, Sequence[RatedPair]]
    decided: Mapping[str, Any]
    unused: int

    def to_json(self) -> dict[str, Any]:
        """The content of `scheme.json`."""
        return {
            "scheme": self.options.scheme,
            "seed": self.options.seed,
            "proportions": dict(self.options.proportions),
            **self.decided,
            "scenes": {k: len({r.pair.sample for r in v}) for k, v in self.splits.items()},
            "pairs": {name: len(pairs) for name, pairs in self.splits.items()},
            "unused": self.unused,
        }

    def remarks(self) -> list[str]:
        """What a user should know beyond the sizes."""
        lines = []
        if "max_objects" in self.decided:
            lines.append(f"training has up to {self.decided['max_objects']} visible objects")
        if "hold_out" in self.decided:
            words = ", ".join("+".join(pair) for pair in self.decided["hold_out"])
            lines.append(f"held out of training: {words}")
        if self.unused:
            lines.append(f"{self.unused} scenes are in no split")
        return lines


def split(
    dataset: Dataset, scheme: str = "cross-view", seed: int = 0, **options: Any
) -> dict[str, list[Pair]]:
    """Divide a data set and write `splits/<scheme>/<split>.jsonl`.

    Args:
        options: further fields of `SplitOptions`.

    Raises:
        ConfigError: unknown scheme, or one that this data set cannot give.
    """
    chosen = SplitOptions(scheme, seed, **options)
    division = divide(read_scenes(dataset), dataset.world, chosen, str(dataset.root))
    write(dataset, division)
    return {name: [r.pair for r in pairs] for name, pairs in division.splits.items()}


def read_scenes(dataset: Dataset) -> Iterator[Scene]:
    """All samples of a data set, in order."""
    world = dataset.world
    return (scene_of(sample, world) for sample in dataset.samples())


def divide(scenes: Iterable[Scene], world: World, options: SplitOptions, where: str) -> Division:
    """Divide scenes: a pure function of them and the options.

    Args:
        where: the data set, for errors.

    Raises:
        ConfigError: unknown scheme or split, or something that these scenes cannot give.
    """
    if options.scheme not in SCHEMES:
        known = ", ".join(SCHEMES)
        raise ParameterError("scheme", f"is unknown; known are {known}", options.scheme)
    scenes = sorted(scenes, key=lambda scene: scene.id)
    parts, decided = SCHEMES[options.scheme](scenes, world, options, where)
    own = {name: part for name, part in parts.items() if part.scenes_of is None}
    chosen = _allot(own, len(scenes), options, where)
    used = sum(map(len, chosen.values()))
    for name, part in parts.items():
        if part.scenes_of in chosen:
            chosen[name] = chosen[part.scenes_of]
    splits = {
        name: [
            rated
            for scene in sorted(chosen[name], key=lambda scene: scene.id)
            for rated in scene.pairs
            if part.shows(rated)
        ]
        for name, part in parts.items()
        if name in chosen
    }
    return Division(options, splits, decided, len(scenes) - used)


def write(dataset: Dataset, division: Division, by_difficulty: bool = False) -> None:
    """Write `splits/<scheme>/<split>.jsonl`, and `scheme.json` that says how it was made.

    The new files are on the disk before what an earlier run wrote for this scheme is deleted, and
    take its place only afterwards, so that even an interrupted run leaves no scene in two splits.

    Args:
        by_difficulty: easy pairs first, instead of by sample.

    Raises:
        DataError: the files cannot be written, or the scheme's folder is a link.
    """
    scheme = division.options.scheme
    folder = dataset.root / "splits" / scheme
    refuse_links(dataset.root, folder)
    with writing(folder):
        make_folder(folder)
    with writing(folder), brief_lock(folder):
        draft = folder / ".draft"
        shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
        try:
            for name, pairs in division.splits.items():
                ordered = sorted(pairs, key=lambda r: r.difficulty) if by_difficulty else pairs
                rated = {r.pair: r.difficulty for r in ordered}
                dataset.write_split(f"{scheme}/{draft.name}/{name}", rated, rated)
            dataset.write_scheme(f"{scheme}/{draft.name}", division.to_json())
            for path in folder.glob("*.jsonl"):
                path.unlink()
            sync_folder(folder)
            for path in list(draft.iterdir()):
                path.replace(folder / path.name)
            sync_folder(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _allot(
    parts: Mapping[str, SplitSpec], total: int, options: SplitOptions, where: str
) -> dict[str, list[Scene]]:
    """The scenes of every split that has any.

    Splits that draw from other scenes than training come first, those with the fewest scenes to
    draw from before the others; they prefer scenes that training cannot use.
    """
    _check_proportions(options, parts)
    train = parts["train"]
    trainable = {scene.id for scene in train.pool}
    chosen: dict[str, list[Scene]] = {}
    taken: set[str] = set()

    def size(name: str, least: int) -> int:
        """How many scenes a split gets, which has `least` of them if nobody asks for more."""
        given = options.proportions.get(name, parts[name].share)
        if name not in options.proportions:
            return max(least, 1, round(given * total))
        return given if isinstance(given, int) else max(1, round(given * total)) if given else 0

    def too_many(name: str, wanted: int, there: int) -> ConfigError:
        return ConfigError(
            f"{where}: {options.scheme}/{name} cannot have {wanted} of {total} scenes: {there} are "
            f"left that could be in it; render more, or choose smaller proportions"
        )

    apart = [name for name, part in parts.items() if part.pool is not train.pool]
    for name in sorted(apart, key=lambda name: len(parts[name].pool)):
        pool = [scene for scene in parts[name].pool if scene.id not in taken]
        bound = [scene for scene in pool if scene.id not in trainable]
        free = [scene for scene in pool if scene.id in trainable]
        wanted = size(name, len(bound))
        if wanted > len(pool):
            raise too_many(name, wanted, len(pool))
        first = min(wanted, len(bound))
        chosen[name] = [
            *stratify(bound, {name: first}, options.seed)[name],
            *stratify(free, {name: wanted - first}, options.seed)[name],
        ]
        taken |= {scene.id for scene in chosen[name]}

    pool = [scene for scene in train.pool if scene.id not in taken]
    sizes: dict[str, int] = {}
    for name in (n for n, part in parts.items() if part.pool is train.pool and n != "train"):
        sizes[name] = size(name, 0)
        if sum(sizes.values()) > len(pool):
            there = len(pool) - sum(sizes.values()) + sizes[name]
            raise too_many(name, sizes[name], there)
    there = len(pool) - sum(sizes.values())
    wanted = size("train", 0) if "train" in options.proportions else max(1, there)
    if wanted > there or wanted < 1:
        raise too_many("train", wanted, there)
    chosen |= stratify(pool, {**sizes, "train": wanted}, options.seed)
    return {name: scenes for name, scenes in chosen.items() if scenes}


def _check_proportions(options: SplitOptions, parts: Iterable[str]) -> None:
    for name, value in options.proportions.items():
        if name not in parts:
            message = f"{options.scheme} has no such split here; it has {', '.join(parts)}"
            raise ParameterError("proportions", message, name)
        if value < 0 or (isinstance(value, float) and not value <= 1):
            message = "write a share of the scenes from 0.0 to 1.0, or a number of scenes"
            raise ParameterError("proportions", message, f"{name}={value}")


def stratify(
    scenes: Sequence[Scene], sizes: Mapping[str, int], seed: int
) -> dict[str, list[Scene]]:
    """Divide scenes so that every part has its share of every label, as far as counts allow.

    In an order of chance, each scene goes to the part that lacks most of its labels, relative to
    what is the part's share of them (a simple form of iterative stratification: Sechidis,
    Tsoumakas and Vlahavas, ECML PKDD 2011).

    Args:
        sizes: exact number of scenes of each part; together at most all of them.
    """
    rest = ""  # scenes that are in no part
    room = {**sizes, rest: len(scenes) - sum(sizes.values())}
    counts = Counter(label for scene in scenes for label in scene.labels)
    share = {
        label: {name: count * room[name] / len(scenes) for name in room if room[name]}
        for label, count in counts.items()
    }
    lacking = {label: dict(parts) for label, parts in share.items()}
    result: dict[str, list[Scene]] = {name: [] for name in room}
    for scene in sorted(scenes, key=lambda scene: derive(seed, "split", scene.id)):
        needs = {
            name: sum(lacking[label][name] / share[label][name] for label in scene.labels)
            for name, places in room.items()
            if places
        }
        best = max(needs, key=needs.__getitem__)
        result[best].append(scene)
        room[best] -= 1
        for label in scene.labels:
            lacking[label][best] -= 1
    return {name: result[name] for name in sizes}

"""Dividing a data set into splits. Every scheme is by scene: no scene is in two splits."""

from scenes.errors import ConfigError
from scenes.seeds import derive
from schemas.dataset import Dataset
from schemas.records import Pair, Sample

SHARES = {"val": 0.1, "test_id": 0.15, "test_ood": 0.15}
"""Shares of the scenes; the rest is for training. Every split gets at least one scene."""


def cross_view(dataset: Dataset, seed: int = 0) -> dict[str, list[Pair]]:
    """The paper's scheme: train, val and test_id see one view twice; test_ood another at the end.

    With the preset `star` a scene of test_ood gives two pairs, so that test_id and test_ood
    together hold one third each of center, left and right.

    Raises:
        ConfigError: the data set has too few scenes, or no pairs of the kind asked for.
    """
    same: dict[str, list[Pair]] = {}
    other: dict[str, list[Pair]] = {}
    for sample in dataset.samples():
        pairs = all_pairs(sample)
        same[sample.id] = [p for p in pairs if p.initial == p.final]
        other[sample.id] = [p for p in pairs if p.initial != p.final]
    if len(same) < len(SHARES) + 1:
        raise ConfigError(
            f"{dataset.root}: {len(same)} samples cannot be divided into {len(SHARES) + 1} splits; "
            f"render more"
        )
    for kind, pairs_of in (("seen twice from one camera", same), ("seen from two cameras", other)):
        if not all(pairs_of.values()):
            raise ConfigError(
                f"{dataset.root}: cross-view needs scenes {kind}, which its cameras.initial and "
                f"cameras.final do not give; render with the preset star, trance or random-view"
            )
    order = sorted(same, key=lambda i: derive(seed, "cross-view", i))
    result: dict[str, list[Pair]] = {}
    start = 0
    for name, share in SHARES.items():
        end = start + max(1, round(share * len(order)))
        pairs_of = other if name == "test_ood" else same
        result[name] = [p for i in sorted(order[start:end]) for p in pairs_of[i]]
        start = end
    result["train"] = [p for i in sorted(order[start:]) for p in same[i]]
    return {name: result[name] for name in ("train", *SHARES)}


SCHEMES = {"cross-view": cross_view}


def split(dataset: Dataset, scheme: str = "cross-view", seed: int = 0) -> dict[str, list[Pair]]:
    """Divide a data set and write `splits/<scheme>/<split>.jsonl`.

    Raises:
        ConfigError: unknown scheme, or one that this data set cannot give.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"--scheme {scheme}: is unknown; known are {', '.join(SCHEMES)}")
    splits = SCHEMES[scheme](dataset, seed)
    for name, pairs in splits.items():
        dataset.write_split(f"{scheme}/{name}", pairs)
    return splits


def all_pairs(sample: Sample) -> list[Pair]:
    """Every combination of an initial and a final image of a sample."""
    cameras = {
        state: [i.camera for i in sample.images if i.state == state]
        for state in ("initial", "final")
    }
    return [Pair(sample.id, a, b) for a in cameras["initial"] for b in cameras["final"]]

"""Ratios of sums with percentile bootstrap intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from star_tvr.scenes.seeds import stream

Floats = NDArray[np.float64]

RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap 95 % interval.

    Attributes:
        value, low, high: None if there is nothing to measure it on.
        count: what the ratio is over: items, or true transformations of one attribute.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int


def scene_sums(scenes: Sequence[str], ratios: Floats) -> Floats:
    """Numerators and denominators, summed over the items of each scene.

    Args:
        scenes: the scene of every item. Shape: (items,).
        ratios: numerators and denominators of its metrics. Shape: (items, metrics, 2).

    Returns:
        Shape: (scenes, metrics, 2).
    """
    rows = {scene: row for row, scene in enumerate(sorted(set(scenes)))}
    sums = np.zeros((len(rows), *ratios.shape[1:]))
    np.add.at(sums, np.array([rows[scene] for scene in scenes], int), ratios)
    return sums


def estimates(sums: Floats, others: Floats | None = None) -> list[Estimate]:
    """Every metric with its interval, or what it is more than that of others: see `bootstrap`."""
    found = []
    counts = sums[:, :, 1].sum(axis=0).tolist()
    for numbers, count in zip(bootstrap(sums, others).tolist(), counts, strict=True):
        value, low, high = (None if math.isnan(x) else x for x in numbers)
        found.append(Estimate(value, low, high, round(count)))
    return found


def bootstrap(sums: Floats, others: Floats | None = None, resamples: int = RESAMPLES) -> Floats:
    """Ratios of sums with percentile intervals over resampled rows; always the same draws.

    Args:
        sums: numerators and denominators. Shape: (n, metrics, 2).
        others: subtract the ratios of these, drawn together with `sums`. Same shape.
        resamples: number of draws.

    Returns:
        Value, 2.5th and 97.5th percentile; NaN where a denominator is 0. Shape: (metrics, 3).
    """

    def ratios(weights: Floats) -> Floats:
        """Shape: (draws, n) to (draws, metrics)."""
        parts = []
        for array in (sums, others):
            if array is not None:
                total = np.tensordot(weights, array, axes=1)
                with np.errstate(invalid="ignore"):
                    parts.append(total[..., 0] / total[..., 1])
        return parts[0] - parts[1] if others is not None else parts[0]

    n = len(sums)
    value = ratios(np.ones((1, n)))[0]
    if n == 0:
        return np.stack([value] * 3, axis=1)
    rng = stream(0, "bootstrap")
    share = np.full(n, 1 / n)
    chunk = max(1, 2_000_000 // n)
    draws = np.concatenate(
        [
            ratios(rng.multinomial(n, share, size=min(chunk, resamples - k)).astype(float))
            for k in range(0, resamples, chunk)
        ]
    )
    interval = np.full((2, draws.shape[1]), np.nan)
    measured = ~np.isnan(draws).all(axis=0)
    interval[:, measured] = np.nanpercentile(draws[:, measured], [2.5, 97.5], axis=0)
    return np.vstack([value, interval]).T

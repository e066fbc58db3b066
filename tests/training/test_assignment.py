"""The assignment of predictions to truths, against scipy's."""

import random

import pytest
from scipy.optimize import linear_sum_assignment

from star_tvr.training.assignment import best_assignment

# Prices of the presets, which tie often; others that tie in sums only; and any.
PRICES = ([0.0, 1.5, 2.5, 6.0], [0.0, 0.1, 0.2, 0.3, 0.30000000000000004], None)


@pytest.mark.parametrize("prices", PRICES)
def test_it_is_scipy_s_to_the_last_tie(prices: list[float] | None) -> None:
    rng = random.Random(7)
    for _ in range(3000):
        height, width = rng.randint(1, 9), rng.randint(1, 9)
        gains = [
            [rng.choice(prices) if prices else rng.random() for _ in range(width)]
            for _ in range(height)
        ]
        rows, columns = linear_sum_assignment(gains, maximize=True)
        assert best_assignment(gains) == list(zip(rows.tolist(), columns.tolist(), strict=True))

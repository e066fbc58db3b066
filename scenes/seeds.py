"""Random numbers from hashed keys: the only source of randomness in planning.

Seeds are hashed, never added, so that streams of neighbouring samples cannot overlap.
"""

import hashlib
from functools import lru_cache

import numpy as np

Key = int | str


def derive(seed: int, *keys: Key) -> int:
    """A 64-bit seed that depends on `seed` and on every key, in order.

    >>> derive(0, "scene", 1) == derive(0, "scene", 1)
    True
    >>> derive(0, "scene", 1) == derive(1, "scene", 0)
    False
    """
    text = "\x1f".join(f"{type(k).__name__}:{k}" for k in (seed, *keys))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def sample_seed(seed: int, index: int) -> int:
    """The seed of sample `index`; below 2^53, so that every reader of JSON keeps it exactly."""
    return derive(seed, "sample", index) >> 11


def stream(seed: int, *keys: Key) -> np.random.Generator:
    """An independent random generator for `(seed, *keys)`."""
    return np.random.Generator(np.random.PCG64(derive(seed, *keys)))


@lru_cache(maxsize=4096)
def shuffled(count: int, seed: int, *keys: Key) -> tuple[int, ...]:
    """The numbers 0 … count-1 in an order that depends on `(seed, *keys)` alone."""
    return tuple(stream(seed, *keys).permutation(count).tolist())

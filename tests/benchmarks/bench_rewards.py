"""How fast rewards and the parser are: `python tests/benchmarks/bench_rewards.py`.

Prints completions per second on one core for answers of up to four triplets, then the time the
parser takes for a megabyte of hostile text and how much longer it takes for two.
"""

import time
from collections.abc import Callable
from functools import partial

from star_tvr.training.answers import parse
from star_tvr.training.rewards import score

TRUTH = "2.color.cyan, 0.size.small, 3.shape.cube, 5.material.glass"
REASONING = "The red cube left of the large sphere in the first image is cyan in the second. " * 5
ANSWERS = {
    "one, right": "2.color.cyan",
    "four, right": TRUTH,
    "four, mixed": "2.color.red, 0.size.small, 3.shape.cube, 7.material.metal",
    "four, of one object": "2.color.red, 2.color.cyan, 2.size.small, 2.shape.cube",
    "prose": "The cube on the left became cyan and the small sphere is now metal",
}
ONE_OBJECT = "2.color.cyan, 2.shape.cube, 2.size.large, 2.material.glass"

HOSTILE = {
    "<answer> again and again": lambda n: "<answer>" * (n // 8),
    "empty answers": lambda n: "<answer></answer>" * (n // 17),
    "angle brackets": lambda n: "<" * n,
    "commas": lambda n: f"<answer>{',' * n}</answer>",
    "letters and commas": lambda n: f"<answer>{'a,' * (n // 2)}</answer>",
    "one triplet": lambda n: f"<answer>{'2.color.cyan,' * (n // 13)}</answer>",
    "different triplets": lambda n: (
        f"<answer>{','.join(f'{k:06d}.color.cyan' for k in range(n // 18))}</answer>"
    ),
    "digits": lambda n: f"<answer>{'1' * n}</answer>",
    "a long value": lambda n: f"<answer>2.color.{'a' * n}!</answer>",
    "no-break spaces": lambda n: "<answer>" + "a\u00a0" * (n // 3) + "</answer>",
    "emoji": lambda n: "<answer>" + "\U0001f600," * (n // 5) + "</answer>",
    "lone surrogates": lambda n: "<answer>" + "\ud800" * n + "</answer>",
}


def seconds(call: Callable[[], object], repeats: int, rounds: int = 10) -> float:
    """The shortest time a call takes over rounds, which is the least disturbed one."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        times.append((time.perf_counter() - start) / repeats)
    return min(times)


def main() -> None:
    """Measure and print."""
    print(f"{'score':26} completions/s")
    for name, answer in ANSWERS.items():
        completion = f"<think>{REASONING}</think><answer>{answer}</answer>"
        truth = ONE_OBJECT if name.endswith("one object") else TRUTH
        rate = 1 / seconds(partial(score, completion, truth), 2000)
        print(f"{name:26} {rate:13,.0f}")
    print(f"\n{'parse':26}    ms for 1 MB   MB/s   2 MB over 1 MB")
    for name, text in HOSTILE.items():
        single, double = (seconds(partial(parse, text(n)), 1) for n in (1_000_000, 2_000_000))
        print(f"{name:26} {1000 * single:14.1f} {1 / single:6.0f} {double / single:12.2f}")


if __name__ == "__main__":
    main()

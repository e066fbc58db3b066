"""Rewards of the user's own, by TRL's calling convention: docs/rewards.md says how to write one."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from star_tvr.scenes.errors import ConfigError
from star_tvr.training.config import ExtraRewards
from star_tvr.training.errors import TrainingError
from star_tvr.training.rewards import RewardFunction
from star_tvr.training.user_code import describe_failure, load_function

COLUMNS = (
    *("prompts", "completions", "completion_ids", "images", "truth"),
    *("sample", "initial", "final", "epoch"),
    *("trainer_state", "log_extra", "log_metric"),
)
"""What TRL gives to a reward function, each by its name: its own, and the columns of our rows."""


def custom_rewards(extra: ExtraRewards) -> list[RewardFunction]:
    """TRL reward functions for those of the user's own that are on, each named as the user did.

    Raises:
        ConfigError: one of them cannot be loaded, or does not take what TRL gives.
    """
    return [_checked(name, weight) for name, weight in extra.custom.items() if weight > 0]


def _checked(name: str, weight: float) -> RewardFunction:
    """The function of that name, times its weight; what it returns is looked at."""
    key = f"reward.extra.{name}"
    function = load_function(key, name)
    _check_signature(key, function)

    def reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        try:
            found = function(completions=completions, **columns)
        except Exception as problem:
            source = name.rpartition(":")[0]
            raise TrainingError(
                f"{key}: {describe_failure(problem, source)}; mend it and start again"
            ) from problem
        return [None if r is None else weight * r for r in _numbers(key, found, len(completions))]

    reward.__name__ = reward.__qualname__ = name.rpartition(":")[2]
    return reward


def _check_signature(key: str, function: Callable[..., Any]) -> None:
    """Raise ConfigError unless a function takes what TRL gives."""
    call = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.iscoroutinefunction(call):
        raise ConfigError(f"{key}: is async; write a plain function, def f(completions, **columns)")
    if inspect.isclass(function):
        raise ConfigError(f"{key}: is a class; name a function, def f(completions, **columns)")
    try:
        inspect.signature(function).bind(**dict.fromkeys(COLUMNS))
    except TypeError as problem:
        raise ConfigError(
            f"{key}: {problem}; write def f(completions, **columns), where columns has "
            f"{', '.join(c for c in COLUMNS if c != 'completions')}"
        ) from None
    except ValueError:
        pass  # a function of C that does not tell


def _numbers(key: str, found: Any, wanted: int) -> list[float | None]:
    """What a function returned, if it is a number or None for each completion."""
    cure = "return a list with one number, or None, for each completion"
    if isinstance(found, str | bytes | dict | set) or not hasattr(found, "__iter__"):
        raise TrainingError(f"{key}: returned {_short(found)}; {cure}")
    rewards = list(found)
    if len(rewards) != wanted:
        raise TrainingError(f"{key}: returned {len(rewards)} for {wanted} completions; {cure}")
    return [None if reward is None else _number(key, reward, cure) for reward in rewards]


def _number(key: str, reward: Any, cure: str) -> float:
    try:
        number = math.nan if isinstance(reward, str | bytes) else float(reward)
    except (TypeError, ValueError, RuntimeError):  # the last one: a tensor of several numbers
        number = math.nan
    if not math.isfinite(number):
        raise TrainingError(f"{key}: returned {_short(reward)} among its rewards; {cure}")
    return number


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:100]} …"

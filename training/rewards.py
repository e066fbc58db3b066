"""The reward: predictions matched to the truth, and what every match pays.

The reward of STAR-R1 (arXiv 2505.15804), its ablations, and Reason-RFT's tiers (arXiv 2503.20752)
are nothing but values of `Reward`; docs/rewards.md gives the formula and its properties. For
training there are functions in TRL's calling convention; the ones for other trainers are in
integrations/.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import Field

from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.settings import Flag, NonNegative, Number, Settings
from star_tvr.scenes.transformations import Transformation
from star_tvr.training.answers import Prediction, as_told, completion_text, parse, parse_truth
from star_tvr.training.assignment import best_assignment

Truth = str | Iterable[str | Transformation]
Matching = Literal["one-to-one", "independent"]


Penalty = Annotated[Number, Field(le=0)]


class Reward(Settings):
    """What answers earn. A tier that pays 0 is no match: its prediction is a wrong one."""

    exact: NonNegative = 5.0
    """Object, attribute and value match."""
    attribute: NonNegative = 1.5
    """Object and attribute match."""
    object: NonNegative = 0.5
    """Only the object matches."""
    change: NonNegative = 0.0
    """Attribute and value match, on another object."""
    kind: NonNegative = 0.0
    """Only the attribute matches."""
    wrong: Penalty = -1.0
    """Each prediction without a match."""
    missing: Penalty = -1.0
    """Each prediction fewer than there are true transformations."""
    gap: Penalty = 0.0
    """Each prediction more or fewer than there are true transformations."""
    complete: Number = 0.0
    """All transformations right and nothing else."""
    format: Number = 1.0
    """The completion has the right form."""
    average: Flag = False
    """As in Reason-RFT: repeated predictions are dropped, and the sum is divided by the larger of
    the numbers of predictions and truths and multiplied by the share of predictions that were not
    dropped."""
    matching: Matching = "one-to-one"
    """`one-to-one`, or `independent`: the literal formula of the paper, in which every prediction
    takes the best tier it reaches, whatever the others took."""


PRESETS: Mapping[str, Reward] = {
    "star": Reward(),
    "no-object": Reward(object=0.0),
    "no-attribute": Reward(attribute=0.0),
    "no-missing": Reward(missing=0.0),
    "no-wrong": Reward(wrong=0.0),
    "count-gap": Reward(wrong=0.0, missing=0.0, gap=-1.0),
    "binary": Reward(exact=0, attribute=0, object=0, wrong=0, missing=0, complete=1),
    "reason-rft": Reward(
        exact=1, attribute=0.5, object=0, change=0.5, kind=0.25, wrong=0, missing=0, average=True
    ),
    "strict": Reward(attribute=0.0, object=0.0),
    "even": Reward(attribute=0.0, object=0.0, wrong=-5.0, missing=0.0),
    "bonus": Reward(complete=5.0),
    "even-bonus": Reward(attribute=0.0, object=0.0, wrong=-5.0, missing=0.0, complete=5.0),
}
"""The reward of STAR-R1, the ablations of its table, the tiers of Reason-RFT, and four of ours."""


class Match(NamedTuple):
    """One prediction, the truth that pays for it, and why.

    Attributes:
        prediction: a triplet, or the text of a piece that is none.
        truth: None if the prediction is a wrong one.
        tier: the name of the weight: exact, attribute, object, change, kind, or wrong.
        points: the value of that weight.
    """

    prediction: Prediction
    truth: Transformation | None
    tier: str
    points: float


@dataclass(frozen=True)
class Score:
    """A reward and how it came about.

    Attributes:
        format: the reward of the form.
        accuracy: the reward of the answer.
        matches: one for each prediction, in the order of the answer.
        truth: the true transformations.
    """

    format: float
    accuracy: float
    matches: tuple[Match, ...]
    truth: tuple[Transformation, ...]

    @property
    def total(self) -> float:
        """The reward: form and answer together."""
        return self.format + self.accuracy

    @property
    def unmatched(self) -> tuple[Transformation, ...]:
        """The true transformations that paid for no prediction."""
        paid = {match.truth for match in self.matches}
        return tuple(t for t in self.truth if t not in paid)

    def explain(self) -> str:
        """The matching in words, a line for each prediction and each truth left over.

        >>> answer = "<think></think><answer>2.color.red, 7.size.small</answer>"
        >>> print(score(answer, "2.color.cyan, 0.shape.cube").explain())
        2.color.red: attribute of 2.color.cyan, 1.5
        7.size.small: wrong, -1
        0.shape.cube: not found
        format 1, accuracy 0.5, total 1.5
        """
        lines = [
            f"{m.prediction}: {m.tier}{f' of {m.truth}' if m.truth else ''}, {m.points:g}"
            for m in self.matches
        ]
        lines += [f"{t}: not found" for t in self.unmatched]
        lines.append(f"format {self.format:g}, accuracy {self.accuracy:g}, total {self.total:g}")
        return "\n".join(lines)


def score(
    completion: Any,
    truth: Truth,
    preset: str | Reward = "star",
    matching: Matching | None = None,
    weights: Mapping[str, float | bool] | None = None,
) -> Score:
    """The reward of one completion.

    >>> score("<think>The cube.</think><answer>2.color.red</answer>", "2.color.cyan").total
    2.5

    Args:
        completion: a text or chat messages, see `completion_text`.
        truth: the answer string, or a list of triplets; with what is as right, see `truth_text`.
        preset: a key of `PRESETS`, or a reward of one's own.
        matching: another one than the preset's.
        weights: changes to the preset, by name.

    Raises:
        ConfigError: there is no such preset, matching or weight.
        TripletError: the truth is not in the answer language.
    """
    reward = resolve_reward(preset, matching, weights)
    parsed = parse(completion_text(completion))
    truths = _truth_of(truth) if isinstance(truth, str) else parse_truth(truth)
    accuracy, matches = _score_answer(parsed.predictions, truths, reward)
    return Score(float(reward.format) if parsed.format_ok else 0.0, accuracy, matches, truths)


def resolve_reward(
    preset: str | Reward = "star",
    matching: Matching | None = None,
    weights: Mapping[str, float | bool] | None = None,
) -> Reward:
    """A preset with changes on top.

    >>> resolve_reward("star", weights={"wrong": -2}).wrong
    -2.0

    Raises:
        ConfigError: there is no such preset, matching or weight, or a value makes no sense.
    """
    if isinstance(preset, str) and preset not in PRESETS:
        raise ConfigError(f"reward.preset: {preset!r} is not one of {', '.join(PRESETS)}")
    reward = PRESETS[preset] if isinstance(preset, str) else preset
    if matching is not None and matching not in get_args(Matching):
        raise ConfigError(f"reward.matching: {matching!r} is not {' or '.join(get_args(Matching))}")
    if not weights and matching in (None, reward.matching):
        return reward
    changes = {**(weights or {}), "matching": matching or reward.matching}
    try:
        return Reward.parse({**reward.model_dump(), **changes}, "reward.weights")
    except ConfigError as problem:
        raise ConfigError(str(problem).replace(": ", ".", 1)) from None


_truth_of = lru_cache(maxsize=4096)(parse_truth)


def _tier(prediction: Transformation, truth: Transformation) -> str:
    if prediction.object == truth.object:
        if prediction.attribute != truth.attribute:
            return "object"
        return "exact" if prediction.value == truth.value else "attribute"
    if prediction.attribute != truth.attribute:
        return "wrong"
    return "change" if prediction.value == truth.value else "kind"


def _score_answer(
    predictions: Sequence[Prediction],
    truths: Sequence[Transformation],
    reward: Reward,
) -> tuple[float, tuple[Match, ...]]:
    """The accuracy reward and the matches."""
    given, spoken = len(predictions), predictions
    predictions = as_told(predictions, truths)
    if reward.average:
        kept = dict(zip(reversed(predictions), reversed(spoken), strict=True))  # the first of each
        predictions = list(dict.fromkeys(predictions))
        spoken = [kept[p] for p in predictions]
    # Every pair that pays: (prediction, truth, tier, points).
    pairs = [
        (i, j, tier, points)
        for i, prediction in enumerate(predictions)
        if isinstance(prediction, Transformation)
        for j, truth in enumerate(truths)
        if (tier := _tier(prediction, truth)) != "wrong" and (points := getattr(reward, tier)) > 0
    ]
    if reward.matching == "one-to-one":
        pairs = _assign(pairs, len(predictions), len(truths), -reward.wrong)
    else:
        pairs.sort(key=lambda pair: pair[3])  # so that the best pair of a prediction comes last
    matches = [Match(p, None, "wrong", reward.wrong) for p in spoken]
    for i, j, tier, points in pairs:
        matches[i] = Match(spoken[i], truths[j], tier, points)

    count, wanted = len(predictions), len(truths)
    total = math.fsum(match.points for match in matches)
    total += reward.missing * max(0, wanted - count) + reward.gap * abs(count - wanted)
    if reward.complete and count == wanted and set(predictions) == set(truths):
        total += reward.complete
    if reward.average and count:
        total *= count / given / max(count, wanted)
    return float(total), tuple(matches)


Pair = tuple[int, int, str, float]


def _assign(pairs: list[Pair], count: int, wanted: int, saved: float) -> list[Pair]:
    """The pairs of the assignment with the highest total.

    A matched prediction earns its points and is not a wrong one, which saves another `saved`.
    """
    if len({p[0] for p in pairs}) == len(pairs) == len({p[1] for p in pairs}):
        return pairs  # nobody competes for anything
    rows = {i: row for row, i in enumerate(dict.fromkeys(p[0] for p in pairs))}
    gains = [[0.0] * wanted for _ in rows]
    for i, j, _, points in pairs:
        gains[rows[i]][j] = points + saved
    chosen = set(best_assignment(gains))
    return [p for p in pairs if (rows[p[0]], p[1]) in chosen]


RewardFunction = Callable[..., list[float | None]]
"""TRL's calling convention: `f(completions, **columns)`, one number or None for each completion."""

TRUTH_COLUMNS = ("truth", "solution", "answer", "ground_truth")
"""Columns that may hold the true answers; of several, the first one here counts."""


def true_answers(columns: Mapping[str, Any]) -> Sequence[Truth | None]:
    """The column of a data set with the true answers, under any name of `TRUTH_COLUMNS`.

    >>> true_answers({"prompt": ["…"], "solution": ["2.color.cyan"]})
    ['2.color.cyan']

    Raises:
        ConfigError: there is none.
    """
    for name in TRUTH_COLUMNS:
        if name in columns:
            return columns[name]
    raise ConfigError(
        f"truth: the data set has no column of true answers; call it {' or '.join(TRUTH_COLUMNS)}"
    )


def format_reward(reward: str | Reward = "star") -> RewardFunction:
    """A TRL reward function for the form of completions. It is named `format_reward` in logs.

    >>> format_reward()(["<think></think><answer></answer>", "2.color.cyan"])
    [1.0, 0.0]

    Raises:
        ConfigError: there is no such preset.
    """
    earned = resolve_reward(reward)

    def format_reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        return [
            float(earned.format) if parse(completion_text(c)).format_ok else 0.0
            for c in completions
        ]

    return format_reward


def accuracy_reward(reward: str | Reward = "star") -> RewardFunction:
    """A TRL reward function for answers. It is named `accuracy_reward` in logs.

    The data set's column `truth` (or another of `TRUTH_COLUMNS`) holds the answer strings; where it
    is None the reward is None, which TRL skips.

    >>> accuracy_reward()(["<answer>2.color.cyan</answer>"], truth=["2.color.cyan"])
    [5.0]

    Raises:
        ConfigError: there is no such preset.
    """
    earned = resolve_reward(reward)

    def accuracy_reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        return [
            None if t is None else score(c, t, earned).accuracy
            for c, t in zip(completions, true_answers(columns), strict=True)
        ]

    return accuracy_reward


def combined_reward(reward: str | Reward = "star") -> RewardFunction:
    """A TRL reward function for form and answer together, named `combined_reward` in logs.

    >>> completion = [{"role": "assistant", "content": "<think></think><answer></answer>"}]
    >>> combined_reward()([completion], truth=["2.color.cyan"])
    [0.0]

    Raises:
        ConfigError: there is no such preset.
    """
    earned = resolve_reward(reward)

    def combined_reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        return [
            None if t is None else score(c, t, earned).total
            for c, t in zip(completions, true_answers(columns), strict=True)
        ]

    return combined_reward

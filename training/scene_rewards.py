"""Further rewards that the ground truth makes possible, each from 0 to 1 and off by default.

reference    STAR-R1's second reward (CVPR 2026): the right reference objects, and true relations
consistency  SVQA-R1's idea: another final view of the same scene must not change the answer
grounding    SATORI-R1's idea: boxes named in the reasoning against the true boxes

The first and the last read the reasoning with `training.trace_checker.check_trace`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from star_tvr.schemas.records import Pair
from star_tvr.training.answers import completion_text, parse
from star_tvr.training.config import ExtraRewards
from star_tvr.training.rewards import RewardFunction
from star_tvr.training.scene_facts import Facts
from star_tvr.training.trace_checker import TraceReport, check_trace, reasoning_of

RELATIONS_WANTED = 2
"""True relations in a picture that earn the full reference reward."""


def reference_score(report: TraceReport, facts: Facts) -> float:
    """Precision of what is said times coverage of the reference relations, 0 to 1.

    Precision is the share of true statements among those about references, attributes, relations
    and the map. Coverage is the mean over both pictures of min(1, n / wanted), n being the
    different true relations with an object that is seen in both pictures and unchanged, and wanted
    2, or fewer where the picture has fewer. The paper does not print its formula; this one is ours.
    """
    kinds = ("reference", "attributes", "relation", "same")
    said = [s for s in report.statements if s.kind in kinds]
    if not said:
        return 0.0
    anchors = facts.anchors or facts.pictures[0].seen.keys()
    coverage = 0.0
    for image, picture in enumerate(facts.pictures):
        wanted = min(RELATIONS_WANTED, _possible(picture.seen.keys(), anchors))
        found = {
            frozenset(s.objects)
            for s in said
            if s.kind == "relation" and s.true and s.picture == image and anchors & set(s.objects)
        }
        coverage += min(1.0, len(found) / wanted) / 2 if wanted else 0.5
    return coverage * sum(s.true for s in said) / len(said)


def _possible(seen: Any, anchors: Any) -> int:
    """How many pairs of seen objects have an anchor among them."""
    others, known = len(seen - anchors), len(seen & anchors)
    return known * others + known * (known - 1) // 2


def grounding_score(report: TraceReport, facts: Facts) -> float:
    """Mean intersection over union of boxes, 0 to 1.

    The mean is over every (picture, object) whose box is named, and every one of a changed object
    that is shown; a box that is wanted and not named counts 0, as does one of an unknown object.
    """
    named: dict[tuple[Any, Any], float] = {}
    for k, s in enumerate(report.statements):
        if s.kind == "box":
            index = s.objects[0]
            named.setdefault(
                (s.picture, f"unknown {k}" if index is None else index), s.overlap or 0
            )
    wanted = {
        (image, index)
        for image, picture in enumerate(facts.pictures)
        for index in facts.changed
        if index in picture.boxes
    }
    everything = wanted | named.keys()
    return sum(named.get(key, 0.0) for key in everything) / len(everything) if everything else 0.0


def agreement(mine: frozenset[Any], others: Sequence[frozenset[Any]]) -> float:
    """Mean over other answers of shared triplets over all triplets of both, 0 to 1.

    An empty answer agrees with nothing, or silence would be the most consistent answer of all.
    """
    return sum(len(mine & o) / len(mine | o) for o in others if mine | o) / len(others)


def extra_rewards(extra: ExtraRewards, facts: Callable[[Pair, int], Facts]) -> list[RewardFunction]:
    """TRL reward functions for those that are on, named `reference_reward` and so on in logs.

    They need the columns sample, initial, final and epoch.

    Args:
        extra: the multipliers.
        facts: what is true of a pair in an epoch, as `RowReader.facts`.
    """
    known = lru_cache(maxsize=256)(facts)

    @lru_cache(maxsize=1024)
    def report(reasoning: str, pair: Pair, epoch: int) -> TraceReport:
        return check_trace(reasoning, known(pair, epoch))  # two rewards ask for the same one

    def reports(
        completions: Sequence[Any], columns: Mapping[str, Any]
    ) -> list[tuple[TraceReport, Facts]]:
        found = []
        for completion, line in zip(completions, _lines(columns), strict=True):
            pair, epoch = Pair(*line[:3]), line[3]
            reasoning = reasoning_of(completion_text(completion))
            found.append((report(reasoning, pair, epoch), known(pair, epoch)))
        return found

    def reference_reward(
        completions: Sequence[Any],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        checked = reports(completions, columns)
        if log_metric is not None and checked:
            for name in ("true", "false", "unparsed"):
                total = sum(getattr(one, name) for one, _ in checked)
                log_metric(f"statements/{name}", total / len(checked))
        return [extra.reference * reference_score(*pair) for pair in checked]

    def consistency_reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        from accelerate.utils import gather_object

        answers = [frozenset(parse(completion_text(c)).predictions) for c in completions]
        mine = list(zip(_lines(columns), answers, strict=True))
        views: dict[tuple[str, int], list[tuple[tuple[str, str], frozenset[Any]]]] = {}
        for (sample, initial, final, epoch), answer in gather_object(mine):
            views.setdefault((sample, epoch), []).append(((initial, final), answer))
        rewards: list[float | None] = []
        for (sample, initial, final, epoch), answer in mine:
            others = [a for view, a in views[sample, epoch] if view != (initial, final)]
            rewards.append(extra.consistency * agreement(answer, others) if others else None)
        return rewards

    def grounding_reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        checked = reports(completions, columns)
        return [extra.grounding * grounding_score(*pair) for pair in checked]

    functions = (reference_reward, consistency_reward, grounding_reward)
    return [
        function
        for name, function in zip(ExtraRewards.model_fields, functions, strict=True)
        if getattr(extra, name) > 0
    ]


def _lines(columns: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return list(zip(*(columns[k] for k in ("sample", "initial", "final", "epoch")), strict=True))

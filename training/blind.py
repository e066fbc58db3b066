"""What can be learnt without a picture: boosted trees on the objects that a prompt lists.

Each question is learnt on 70 % of the scenes and asked of the rest. Where the trees are right more
often than chance, a data set gives answers away.
"""

import warnings
from collections.abc import Mapping, Sequence
from math import comb, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.seeds import shuffled
from star_tvr.scenes.states import SceneObject, visible_objects
from star_tvr.scenes.world import APPEARANCE, World
from star_tvr.schemas.card import BLIND, BlindBaseline, BlindResult, write_card
from star_tvr.schemas.dataset import Dataset, dumps
from star_tvr.schemas.files import write_whole, writing
from star_tvr.schemas.locks import lock_folder

Floats = NDArray[np.float64]

FEWEST = 100
"""Scenes below which nothing is learnt that could be measured."""

SHARE = 0.7
"""Of the scenes, for learning."""

NEIGHBOURS = 3

NOBODY = -9.0
"""What is said of a neighbour that is not there. Trees have a word of their own for that, NaN, but
refuse a column of nothing else."""

QUESTIONS: Mapping[str, str] = {
    "count": "how many changes",
    "object": "an object that changes",
    "attribute": "what of it changes",
    "value": "the new value",
    "answer": "the whole answer",
}


def write_blind(dataset: Dataset, found: BlindBaseline) -> None:
    """Write `blind.json` into a data set, and what it says into the card.

    Raises:
        DataError: one of them cannot be written.
    """
    path = dataset.root / BLIND
    with lock_folder(dataset.root, shared=True), writing(path):
        write_whole(path, dumps(found.to_json()))
        if dataset.ids():
            write_card(dataset)


def blind_baseline(plans: Sequence[Plan], config: DatasetConfig, seed: int = 0) -> BlindBaseline:
    """Learn every question from the listing, and ask.

    Args:
        plans: at least `FEWEST`.
        config: of their data set.
        seed: of the division into scenes to learn from and to be asked about.

    Raises:
        DataError: there are fewer than `FEWEST` plans.
    """
    import sklearn.ensemble  # noqa: F401 - limits hold for libraries that are there already
    from threadpoolctl import threadpool_limits

    if len(plans) < FEWEST:
        raise DataError(
            f"{len(plans)} samples are too few to learn from; at least {FEWEST} are needed"
        )
    order = shuffled(len(plans), seed, "blind")
    cut = int(SHARE * len(plans))
    known, asked = ([plans[k] for k in part] for part in (order[:cut], order[cut:]))
    # The trees are so small that threads, which wait for each other busily, cost more than they
    # bring: eight times as much where others work, too.
    with threadpool_limits(1):
        questions = tuple(_Learner(config, known).ask(asked))
    return BlindBaseline(samples=len(plans), questions=questions)


class _Learner:
    """One model for each question."""

    def __init__(self, config: DatasetConfig, plans: Sequence[Plan]) -> None:
        self._config, self._world = config, config.world
        scenes = [self._scene(plan) for plan in plans]
        self._count = _fit([s.mean(0) for s in scenes], [len(p.transformations) for p in plans])
        rows: list[Floats] = []
        kinds: list[Floats] = []
        changed: list[bool] = []
        attributes: list[str] = []
        values: dict[str, tuple[list[Floats], list[str]]] = {}
        for plan, scene in zip(plans, scenes, strict=True):
            places = self._places(plan)
            rows += list(scene)
            targets = {t.object for t in plan.transformations}
            changed += [k in targets for k in places]
            for t in plan.transformations:
                if t.object in places:
                    row = scene[places.index(t.object)]
                    kinds.append(row)
                    attributes.append(t.attribute)
                    xs, ys = values.setdefault(t.attribute, ([], []))
                    xs.append(row)
                    ys.append(t.value)
        self._changed = _fit(rows, changed)
        self._attribute = _fit(kinds, attributes)
        self._values = {attribute: _fit(*data) for attribute, data in values.items()}

    def ask(self, plans: Sequence[Plan]) -> list[BlindResult]:
        """The answers to every question about these plans, judged."""
        found: dict[str, list[tuple[bool, float]]] = {q: [] for q in QUESTIONS}
        low, high = self._config.transformations.count
        attributes = self._config.transformations.attributes
        scenes = [self._scene(plan) for plan in plans]
        rows = np.concatenate(scenes)  # trees are slow to ask one at a time
        ends = np.cumsum([len(scene) for scene in scenes])[:-1]
        number = _best(self._count, np.array([s.mean(0) for s in scenes]))
        changing = np.split(_scores(self._changed, rows, True), ends)
        chosen_kinds = np.split(_best(self._attribute, rows), ends)
        values = {a: np.split(_best(m, rows), ends) for a, m in self._values.items()}
        for s, plan in enumerate(plans):
            places = self._places(plan)
            truth = {(t.object, t.attribute): t.value for t in plan.transformations}
            targets = {t.object for t in plan.transformations}
            counts = _counts(len(places), len(attributes), low, high)
            found["count"].append((number[s] == len(truth), 1 / len(counts)))
            likely, kinds = changing[s], chosen_kinds[s]
            first = places[int(likely.argmax())]
            found["object"].append((first in targets, len(targets & {*places}) / len(places)))
            for t in plan.transformations:
                if t.object in places:
                    row = places.index(t.object)
                    found["attribute"].append((kinds[row] == t.attribute, 1 / len(attributes)))
                    if t.attribute in values:
                        chance = 1 / _choices(plan.initial[t.object], t.attribute, self._world)
                        found["value"].append((values[t.attribute][s][row] == t.value, chance))
            chosen = {}
            for row in np.argsort(-likely)[: int(number[s])]:
                if kinds[row] in values:
                    chosen[places[row], kinds[row]] = values[kinds[row]][s][row]
            objects = [plan.initial[k] for k in places]
            choices = [_choices(o, a, self._world) for o in objects for a in attributes]
            chance = _chance_of_answer(choices, counts)
            found["answer"].append((chosen == truth, chance))
        return [_judge(q, results) for q, results in found.items() if results]

    def _places(self, plan: Plan) -> list[int]:
        """The objects that may change, as far as the first picture shows them."""
        shown = visible_objects(plan.initial, self._world)
        return [o.index for o in shown[: len(shown) - len(self._config.objects.fixed)]]

    def _scene(self, plan: Plan) -> Floats:
        """What a prompt says of every such object, and of those about it. Shape: (n, features)."""
        world, image = self._world, self._config.image
        shown = visible_objects(plan.initial, world)
        first = next(camera for state, camera in plan.views if state == "initial")
        centers = np.array([o.center(world) for o in shown])
        points = plan.cameras[first].project(centers, image.width, image.height)
        points = points[:, :2] / image.width
        codes = np.array([_code(o, world) for o in shown], dtype=float)
        rows = []
        for k in range(len(self._places(plan))):
            alike = (codes == codes[k]).sum(0) - 1.0
            nearest = np.argsort(((points - points[k]) ** 2).sum(1))[1 : 1 + NEIGHBOURS]
            about = np.full((NEIGHBOURS, 2 + codes.shape[1]), NOBODY)
            about[: len(nearest)] = np.hstack([points[nearest] - points[k], codes[nearest]])
            rows.append([k, len(shown), *points[k], *codes[k], *alike, *about.ravel()])
        return np.array(rows, dtype=float)


def _code(obj: SceneObject, world: World) -> list[int]:
    """The attributes as numbers, sizes from the smallest."""
    by_size = sorted(world.sizes, key=world.sizes.__getitem__)
    return [
        by_size.index(obj.size) if a == "size" else world.values(a).index(getattr(obj, a))
        for a in APPEARANCE
    ]


def _fit(rows: Sequence[Floats], labels: Sequence[Any]) -> Any:
    """Trees; or the one label there is, if any."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if len(set(labels)) < 2:
        return labels[0] if labels else None
    model = HistGradientBoostingClassifier(
        max_iter=100,
        learning_rate=0.05,
        max_leaf_nodes=15,
        min_samples_leaf=max(5, min(40, len(rows) // 20)),  # few rows could not be divided else
        random_state=0,
    )
    with warnings.catch_warnings():  # sklearn doubts that so many values of a move are classes
        warnings.simplefilter("ignore", UserWarning)
        return model.fit(np.array(rows), np.array(labels))


def _best(model: Any, rows: Floats) -> NDArray[Any]:
    """The likeliest label of every row."""
    if not hasattr(model, "predict"):
        return np.array([model] * len(rows))
    labels: NDArray[Any] = model.predict(rows)
    return labels


def _scores(model: Any, rows: Floats, label: Any) -> Floats:
    """How likely a label is for every row."""
    if not hasattr(model, "predict_proba"):
        return np.ones(len(rows))
    column: Floats = model.predict_proba(rows)[:, list(model.classes_).index(label)]
    return column


def _choices(obj: SceneObject, attribute: str, world: World) -> int:
    """How many new values of an object there are for somebody who knows its old ones."""
    values = world.values(attribute)
    if attribute == "position":
        return len(values)
    looks = vars(obj)
    new = (v for v in values if v != looks[attribute] and world.allows({**looks, attribute: v}))
    return max(1, sum(1 for _ in new))  # there is none before another change of it


def _counts(objects: int, attributes: int, low: int, high: int) -> range:
    return range(low, min(high, objects * attributes) + 1)


def _chance_of_answer(choices: Sequence[int], counts: Sequence[int]) -> float:
    """How likely the best guess at a whole answer is right.

    Args:
        choices: new values of each attribute of each object that may change.
        counts: numbers of changes that there may be, equally likely.
    """
    cheapest = sorted(choices)
    return max(
        1 / (len(counts) * comb(len(cheapest), count) * prod(cheapest[:count])) for count in counts
    )


def _judge(question: str, results: Sequence[tuple[bool, float]]) -> BlindResult:
    right, chance = np.array(results, dtype=float).T
    error = 1.96 * float(
        np.sqrt(max(right.mean() * (1 - right.mean()), 1 / len(right)) / len(right))
    )
    share = float(right.mean())
    return BlindResult(
        question=question,
        title=QUESTIONS[question],
        right=share,
        low=max(0.0, share - error),
        high=min(1.0, share + error),
        chance=float(chance.mean()),
        asked=len(results),
    )


def blind_table(found: BlindBaseline) -> Table:
    """The shares for a terminal."""
    result = Table("question", title="what can be learnt without the pictures")
    for heading in ("right", "95 % interval", "chance", "asked"):
        result.add_column(heading, justify="right")
    for r in found.questions:
        interval = f"{100 * r.low:.1f} to {100 * r.high:.1f} %"
        title = f"{r.title}{' (leaks)' if r.leaks else ''}"
        cells = (f"{100 * r.right:.1f} %", interval, f"{100 * r.chance:.1f} %", str(r.asked))
        result.add_row(title, *cells)
    return result

"""What may happen in a scene: each rule is one function, shared by planner and validator.

A rule returns what breaks it, so an empty result means that it holds. Sources: TRANCE is Hong et
al., CVPR 2021, section 4, and the settings of its published generator.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.plan import Plan
from star_tvr.scenes.shapes import Shape
from star_tvr.scenes.states import SceneObject, State, visible_objects
from star_tvr.scenes.transformations import Transformation, TripletError
from star_tvr.scenes.visibility import (
    Silhouette,
    draw_order,
    reference_size,
    silhouettes,
    visible_pixels,
)
from star_tvr.scenes.world import APPEARANCE, MOST_OBJECTS, World


def free_space(first: SceneObject, second: SceneObject, world: World) -> float:
    """Space between the bounding circles of two objects, beyond the gap that the world asks for."""
    distance = float(np.hypot(first.x - second.x, first.y - second.y))
    return distance - first.radius(world) - second.radius(world) - world.gap


def overlapping(first: SceneObject, second: SceneObject, world: World) -> bool:
    """Whether two objects are closer than the world allows."""
    return free_space(first, second, world) < -1e-9


def overlaps(state: State, world: World) -> list[tuple[int, int]]:
    """No overlap: the pairs of objects that are too close (TRANCE)."""
    return [(a.index, b.index) for a, b in combinations(state, 2) if overlapping(a, b, world)]


def out_of_range(state: State, world: World) -> list[int]:
    """Valid area: the objects that stand outside it (TRANCE)."""
    return [o.index for o in state if not world.in_valid_area(o.x, o.y)]


def move_type(before: SceneObject, after: SceneObject, world: World) -> str | None:
    """`inner`, `out` or `in`; None for a move that nobody can see, not allowed (TRANCE)."""
    return {(True, True): "inner", (True, False): "out", (False, True): "in"}.get(
        (before.visible(world), after.visible(world))
    )


def forbidden(state: State, world: World) -> list[int]:
    """Constraints: the objects whose combination of attributes the world does not allow."""
    return [o.index for o in state if not world.allows(vars(o))]


def repeated(transformations: tuple[Transformation, ...]) -> list[tuple[int, str]]:
    """Once only: (object, attribute) pairs that change more than once.

    TRANCE allows it, and a sequence can then cancel itself.
    """
    pairs = [(t.object, t.attribute) for t in transformations]
    return sorted({p for p in pairs if pairs.count(p) > 1})


def without_effect(plan: Plan, world: World) -> list[Transformation]:
    """A visible difference: the transformations that leave their attribute as it was."""
    states = plan.states(world)
    return [
        t
        for t, before, after in zip(plan.transformations, states, states[1:], strict=False)
        if before[t.object] == after[t.object]
    ]


def crossing_changed(plan: Plan, world: World) -> list[int]:
    """Observable (2): objects that are outside the visible area at an end and do not just move.

    What an object looked like before it came in, or looks like after it left, nobody can see.
    """
    kinds: dict[int, list[str]] = {}
    for t in plan.transformations:
        kinds.setdefault(t.object, []).append(t.attribute)
    return sorted(
        o
        for o, attributes in kinds.items()
        if not (plan.initial[o].visible(world) and plan.final[o].visible(world))
        and attributes != ["position"]
    )


def hidden_changes(
    plan: Plan, world: World, min_pixels: int, width: int, height: int
) -> list[tuple[str, str, int]]:
    """Observable (1) and (3): (state, camera, object) where a changed object cannot be seen.

    A changed object shows at least `min_pixels`, counted at 320 x 240, in every view of the
    initial and of the final state in which it is inside the visible area.

    Args:
        width, height: size of the images, for their proportions.
    """
    size = reference_size(width, height)
    changed = {t.object for t in plan.transformations}
    names, scenes = [], []
    for state_name, camera_name in plan.views:
        if state_name not in ("initial", "final"):
            continue
        state = plan.state(state_name, world)
        seen = visible_objects(state, world)
        if any(o.index in changed for o in seen):
            names.append((state_name, camera_name))
            scenes.append((seen, plan.cameras[camera_name]))
    hidden = []
    outlines = silhouettes(scenes, world, *size)
    for (state_name, name), (seen, camera), shapes in zip(names, scenes, outlines, strict=True):
        order = draw_order(seen, camera, world)
        for k, obj in enumerate(seen):
            if obj.index in changed and visible_pixels(k, shapes, order) < min_pixels:
                hidden.append((state_name, name, obj.index))
    return hidden


def hidden_in_some_form(
    state: State,
    cameras: Iterable[Camera],
    world: World,
    min_pixels: int,
    width: int,
    height: int,
    moves: Iterable[tuple[float, float]] = (),
    known: dict[tuple[SceneObject, Camera], Silhouette] | None = None,
) -> list[int]:
    """The objects that show fewer than `min_pixels` to a camera in some form that they could take.

    Each has every shape in the smallest size, where it is and where every move leads, and all
    others are cylinders about their largest form wherever they can be. So where none is hidden,
    none is after any changes; and nothing in the answer depends on which changes these are.

    Args:
        width, height: size of the images, for their proportions.
        moves: displacements (dx, dy) that each object may make once, Blender units.
        known: outlines that were measured before; new ones are added.
    """
    known = {} if known is None else known
    moves = [(0.0, 0.0), *moves]
    smallest = min(world.sizes, key=world.sizes.__getitem__)
    widest = max(world.sizes.values())
    room = widest + max(float(np.hypot(*step)) for step in moves)
    tallest = 2 * max(shape.half_height for shape in world.shapes.values())
    around = Shape(kind="prism", sides=64, height=tallest * widest / room, bevel=0.005)
    bounded = world.model_copy(
        update={"shapes": {**world.shapes, "": around}, "sizes": {**world.sizes, "": room}}
    )
    seen = visible_objects(state, world)
    others = tuple(replace(o, shape="", size="") for o in seen)
    forms = [
        tuple(replace(o, shape=s, size=smallest, x=o.x + dx, y=o.y + dy) for o in seen)
        for s in world.shapes
        for dx, dy in moves
    ]
    cameras = list(cameras)
    needed = [(o, c) for c in cameras for objects in (others, *forms) for o in objects]
    new = [pair for pair in needed if pair not in known]
    outlines = silhouettes([((o,), c) for o, c in new], bounded, *reference_size(width, height))
    known.update(zip(new, (outline for (outline,) in outlines), strict=True))
    hidden = set()
    for camera in cameras:
        hiding = [known[o, camera] for o in others]
        order = draw_order(others, camera, bounded)
        for objects in forms:
            for k, obj in enumerate(objects):
                mixed = [*hiding[:k], known[obj, camera], *hiding[k + 1 :]]
                if visible_pixels(k, mixed, order) < min_pixels:
                    hidden.add(obj.index)
    return sorted(hidden)


def same_state(first: State, second: State) -> bool:
    """Whether two states agree in everything that a transformation can change."""
    return len(first) == len(second) and all(
        replace(a, rotation=b.rotation) == b for a, b in zip(first, second, strict=True)
    )


def check_plan(plan: Plan, world: World, where: str) -> None:
    """Make sure that a plan that was stored or imported is one that this world can have.

    Its rules may be broken; but objects, values, cameras and states that it names are there, every
    camera sees the whole visible area, and its transformations lead to its final state.

    Args:
        where: what the plan was read from, for errors.

    Raises:
        DataError: naming the field.
    """
    for name, state in (("initial", plan.initial), ("final", plan.final)):
        for k, obj in enumerate(state):
            field = f"{where}: states.{name}.objects.{k}"
            if obj.index != k or k >= MOST_OBJECTS:
                raise DataError(
                    f"{field}.index: is {obj.index}; objects are numbered in order from 0, at most "
                    f"{MOST_OBJECTS} of them"
                )
            for attribute in APPEARANCE:
                value, known = getattr(obj, attribute), world.values(attribute)
                if value not in known:
                    raise DataError(
                        f"{field}.{attribute}: {value!r} is unknown; this data set knows "
                        f"{', '.join(known)}"
                    )
    try:
        states = plan.states(world)
    except TripletError as problem:
        raise DataError(f"{where}: transformations: {problem}") from None
    if not same_state(states[-1], plan.final):
        raise DataError(f"{where}: transformations: do not lead to the final state")
    for k, (state_name, camera_name) in enumerate(plan.views):
        if camera_name not in plan.cameras:
            raise DataError(f"{where}: images.{k}.camera: {camera_name!r} is not in cameras")
        if not sees_area(plan.cameras[camera_name], world):
            raise DataError(f"{where}: cameras.{camera_name}: has objects beside or behind it")
        if state_name.startswith("step-") and int(state_name[5:]) >= len(states):
            raise DataError(
                f"{where}: images.{k}.state: {state_name} needs as many transformations, and there "
                f"are {len(states) - 1}"
            )


def sees_area(camera: Camera, world: World, margin: float = 0.0) -> bool:
    """Whether the whole visible area is in front of a camera.

    Args:
        margin: further distance along its viewing axis to be kept, in Blender units.
    """
    reach = world.visible_area
    corners = np.array([(x, y, 0.0) for x in (-reach, reach) for y in (-reach, reach)])
    depth = float(camera.project(corners, 1, 1)[:, 2].min())
    return depth >= max(world.sizes.values()) + margin


@dataclass(frozen=True)
class Violation:
    """One broken rule."""

    rule: str
    detail: str


def violations(
    plan: Plan, world: World, min_pixels: int, width: int, height: int
) -> Iterator[Violation]:
    """Every rule that a plan breaks. The plan's objects and values must exist."""
    states = plan.states(world)
    for step, state in enumerate(states):
        for a, b in overlaps(state, world):
            yield Violation("no-overlap", f"objects {a} and {b} after {step} transformations")
        for o in out_of_range(state, world):
            yield Violation("valid-area", f"object {o} after {step} transformations")
        for o in forbidden(state, world):
            yield Violation("constraints", f"object {o} after {step} transformations")
    for t, before, after in zip(plan.transformations, states, states[1:], strict=False):
        if (
            t.attribute == "position"
            and move_type(before[t.object], after[t.object], world) is None
        ):
            yield Violation("seen-move", f"{t} stays outside the visible area")
    checks: list[tuple[str, Callable[[], list[object]]]] = [
        ("once-only", lambda: list(repeated(plan.transformations))),
        ("effect", lambda: list(without_effect(plan, world))),
        ("changed-stays", lambda: list(crossing_changed(plan, world))),
        ("observable", lambda: list(hidden_changes(plan, world, min_pixels, width, height))),
    ]
    for rule, find in checks:
        for found in find():
            yield Violation(rule, str(found))
    if not same_state(states[-1], plan.final):
        yield Violation("replay", "the transformations do not lead to the final state")

"""More questions from the same pictures: objects numbered anew, the scene mirrored, time reversed.

Each function takes a sample and returns what the renderer would have stored of the other scene,
but for the files: a mirrored sample's pictures have yet to be flipped from left to right, and masks
keep their values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from star_tvr.scenes.errors import ConfigError
from star_tvr.scenes.states import SceneObject, State, on_grid
from star_tvr.scenes.transformations import Transformation
from star_tvr.scenes.world import World
from star_tvr.schemas.records import Image, Sample


def renumber(sample: Sample, new: Sequence[int]) -> Sample:
    """The same sample with other indices: object i becomes `new[i]` wherever it is named."""

    def state(objects: State) -> State:
        moved = (replace(o, index=new[o.index]) for o in objects)
        return tuple(sorted(moved, key=lambda o: o.index))

    images = []
    for image in sample.images:
        views = (replace(o, index=new[o.index]) for o in image.objects)
        table = {
            name: {new[i]: tuple(sorted(new[j] for j in others)) for i, others in entries.items()}
            for name, entries in image.relations.items()
        }
        objects = tuple(sorted(views, key=lambda o: o.index))
        images.append(replace(image, objects=objects, relations=table))
    plan = sample.plan
    changes = tuple(replace(t, object=new[t.object]) for t in plan.transformations)
    plan = replace(
        plan, initial=state(plan.initial), final=state(plan.final), transformations=changes
    )
    return replace(sample, plan=plan, images=tuple(images))


def mirror(sample: Sample, world: World) -> Sample:
    """The scene behind a mirror that stands along the x axis: y becomes -y.

    Cameras and lights are mirrored too, so each picture is the stored one, flipped.

    Raises:
        ConfigError: the world lacks the direction opposite in y to one in which an object moves.
    """

    def state(objects: State) -> State:
        return tuple(replace(o, y=on_grid(-o.y), rotation=-o.rotation) for o in objects)

    plan = sample.plan
    plan = replace(
        plan,
        cameras={
            name: replace(c, position=_mirrored(c.position), target=_mirrored(c.target))
            for name, c in plan.cameras.items()
        },
        lights={
            name: replace(light, position=_mirrored(light.position))
            for name, light in plan.lights.items()
        },
        initial=state(plan.initial),
        final=state(plan.final),
        transformations=tuple(
            replace(t, value=_direction(t.value, (1, -1), world, "mirror"))
            if t.attribute == "position"
            else t
            for t in plan.transformations
        ),
    )
    return replace(sample, plan=plan, images=tuple(map(_flip_labels, sample.images)))


def _mirrored(point: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = point
    return (x, -y, z)


def _flip_labels(image: Image) -> Image:
    """The labels of an image flipped from left to right."""
    width = image.width
    objects = tuple(
        replace(
            o,
            bbox=o.bbox and (width - o.bbox[2], o.bbox[1], width - o.bbox[0], o.bbox[3]),
            center=(round(width - o.center[0], 3), o.center[1]),
        )
        for o in image.objects
    )
    sides = {"left": "right", "right": "left"}
    relations = {name: image.relations[sides.get(name, name)] for name in image.relations}
    return replace(image, objects=objects, relations=relations)


def reverse(sample: Sample, world: World) -> Sample:
    """The sample with time reversed: what was final is initial, and every change is undone.

    A pair (initial camera, final camera) becomes the pair of the same cameras the other way round.
    Pictures of the states between are left out.

    Raises:
        ConfigError: the world lacks the direction opposite to one in which an object moves.
    """
    plan = sample.plan
    other = {"initial": "final", "final": "initial"}
    images = tuple(replace(i, state=other[i.state]) for i in sample.images if i.state in other)
    before = plan.states(world)
    changes = tuple(
        _undone(t, before[k][t.object], world) for k, t in enumerate(plan.transformations)
    )[::-1]
    plan = replace(
        plan,
        initial=plan.final,
        final=plan.initial,
        transformations=changes,
        views=tuple((i.state, i.camera) for i in images),
    )
    return replace(sample, plan=plan, images=images)


def _undone(change: Transformation, before: SceneObject, world: World) -> Transformation:
    if change.attribute == "position":
        return replace(change, value=_direction(change.value, (-1, -1), world, "reverse"))
    return replace(change, value=getattr(before, change.attribute))


def check_directions(world: World, mirror: bool, reverse: bool) -> None:
    """Make sure that every move has its counterpart. Raises ConfigError."""
    for value in world.values("position"):
        if mirror:
            _direction(value, (1, -1), world, "mirror")
        if reverse:
            _direction(value, (-1, -1), world, "reverse")


def _direction(value: str, signs: tuple[int, int], world: World, key: str) -> str:
    """The move as many steps in the direction with other signs of x and y."""
    name, steps = value.split(".")
    directions: Mapping[tuple[int, int], str] = {v: k for k, v in world.directions.items()}
    x, y = world.directions[name]
    wanted = (x * signs[0], y * signs[1])
    if wanted not in directions:
        raise ConfigError(
            f"rows.{key}: the data set's world.directions has nothing opposite to {name}; leave it "
            "out"
        )
    return f"{directions[wanted]}.{steps}"

"""The files of TRANCE and what they mean in ours: names, vocabulary, samples.

Source: Hong et al., Transformation Driven Visual Reasoning, CVPR 2021; the settings and the loader
of its published code. Positions there are whole steps of a grid, `[ix, iy]`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.config import DatasetConfig
from star_tvr.scenes.errors import DataError
from star_tvr.scenes.plan import Light, Plan
from star_tvr.scenes.rules import move_type
from star_tvr.scenes.states import SceneObject, State, on_grid
from star_tvr.scenes.transformations import Transformation, transform
from star_tvr.scenes.world import World
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import sample_id
from star_tvr.schemas.records import Sample

OBJECTS = 10
"""TRANCE's loaders number the objects of every scene from 0 to 9."""

FRONT_IS_AWAY = {
    "front": [-1, 0],
    "behind": [1, 0],
    "left": [0, -1],
    "right": [0, 1],
    "front-left": [-1, -1],
    "front-right": [-1, 1],
    "behind-left": [1, -1],
    "behind-right": [1, 1],
}
"""TRANCE's directions in steps along (x, y): front leads away from the center camera."""

ATTRIBUTES = ("position", "shape", "size", "material", "color")


def camera_name(name: str) -> str:
    """The name there of a camera of ours.

    >>> camera_name("center")
    'Camera_Center'
    """
    return f"Camera_{name.capitalize()}"


def our_camera(name: str) -> str:
    """The name here of a camera of theirs.

    >>> our_camera("Camera_Left")
    'left'
    """
    return name.removeprefix("Camera_").lower()


def image_name(sample: str, state: str, camera: str, problem: str = "standard") -> str:
    """The file name there of an image of ours.

    >>> image_name("000012", "final", "left")
    'TRANCE_standard_img_000012-final.Camera_Left.png'
    """
    return f"TRANCE_{problem}_img_{sample}-{state}.{camera_name(camera)}.png"


def properties(world: World) -> dict[str, Any]:
    """The content of `properties.json`: what the names of a world mean."""
    return {
        "shape": {name: name for name in world.shapes},
        "color": {name: list(rgb) for name, rgb in world.colors.items()},
        "material": {name: name for name in world.materials},
        "size": dict(world.sizes),
        "position": {
            "direction": {name: list(step) for name, step in world.directions.items()},
            "step": list(world.steps),
        },
        "coordinate": {
            "unit": world.grid,
            "step": world.step,
            "min_gap": world.gap,
            **{f"{axis}_min": -world.valid_area for axis in "xy"},
            **{f"{axis}_max": world.valid_area for axis in "xy"},
            **{f"vis_{axis}_min": -world.visible_area for axis in "xy"},
            **{f"vis_{axis}_max": world.visible_area for axis in "xy"},
        },
    }


def values(world: World) -> dict[str, Any]:
    """The content of `values.json`: every value that a transformation can give."""
    return {
        "shape": list(world.shapes),
        "size": list(world.sizes),
        "position": {"direction": list(world.directions), "step": list(world.steps)},
        "material": list(world.materials),
        "color": list(world.colors),
    }


def sample_document(sample: Sample, world: World, problem: str = "standard") -> dict[str, Any]:
    """A sample as TRANCE's generator would have written it.

    Scenes of fewer than ten objects are filled up with small objects outside the visible area,
    since TRANCE's loaders cannot make batches of scenes of different sizes.

    Raises:
        DataError: there are more than ten objects, or one that is not on the grid.
    """
    plan = sample.plan
    if len(plan.initial) > OBJECTS:
        raise DataError(
            f"sample {sample.id}: has {len(plan.initial)} objects, and TRANCE's loaders take at "
            f"most {OBJECTS}"
        )
    images: dict[str, dict[str, str]] = {"initial": {}, "final": {}}
    for image in sample.images:
        if image.state in images:
            name = image_name(sample.id, image.state, image.camera, problem)
            images[image.state][camera_name(image.camera)] = name
    states = []
    for stage, (name, state) in enumerate((("initial", plan.initial), ("final", plan.final))):
        objects = [_object_document(o, world, sample.id) for o in _filled_up(state, world)]
        states.append({"stage": stage, "objects": objects, "images": images[name]})
    before = plan.states(world)
    return {
        "idx": int(sample.id),
        "states": states,
        "transformations": [
            _transformation_document(t, state, world)
            for t, state in zip(plan.transformations, before, strict=False)
        ],
        "n_transformation": len(plan.transformations),
        "cameras": {camera_name(n): list(c.position) for n, c in plan.cameras.items()},
        "lamps": {f"Lamp_{n.capitalize()}": list(v.position) for n, v in plan.lights.items()},
    }


def _object_document(obj: SceneObject, world: World, sample: str) -> dict[str, Any]:
    cells = _cell(obj, world)
    if any(abs(c * world.grid - v) > 1e-6 for c, v in zip(cells, (obj.x, obj.y), strict=True)):
        raise DataError(f"sample {sample}: object {obj.index} is not on the grid of {world.grid}")
    return {
        "name": f"Object_{obj.index}",
        "shape": obj.shape,
        "size": obj.size,
        "rotation": obj.rotation,
        "position": cells,
        "3d_coords": list(obj.center(world)),
        "material": obj.material,
        "color": obj.color,
    }


def _filled_up(state: State, world: World) -> State:
    """The state with objects added along the edge x = -valid_area until there are ten."""
    spacing = 2 * world.valid_area / (OBJECTS - 1)
    added = []
    for index in range(len(state), OBJECTS):
        x, y = -world.valid_area, -world.valid_area + index * spacing
        x, y = (on_grid(int(v / world.grid) * world.grid) for v in (x, y))
        shape, size = list(world.shapes)[0], min(world.sizes, key=lambda s: world.sizes[s])
        appearance = (list(world.colors)[0], list(world.materials)[0])
        added.append(SceneObject(index, shape, size, *appearance, x, y, 0.0))
    return (*state, *added)


def _transformation_document(t: Transformation, before: State, world: World) -> dict[str, Any]:
    obj = before[t.object]
    document: dict[str, Any] = {
        "obj_idx": t.object,
        "obj_name": f"Object_{t.object}",
        "attr": t.attribute,
        "pair": f"{t.attribute}.{t.value}",
    }
    if t.attribute != "position":
        old = getattr(obj, t.attribute)
        return {**document, "val": t.value, "options": [t.value], "old": old, "new": t.value}
    moved = {v: transform(obj, "position", v, world) for v in world.values("position")}
    kind = move_type(obj, moved[t.value], world)
    options = [t.value]
    if kind == "out":  # wherever it went outside, it looks the same
        options = [
            v for v, o in moved.items() if world.in_valid_area(o.x, o.y) and not o.visible(world)
        ]
    return {
        **document,
        "val": _direction_and_steps(t.value),
        "options": [_direction_and_steps(v) for v in options],
        "old": _cell(obj, world),
        "new": _cell(moved[t.value], world),
        "type": kind or "",
    }


def _cell(obj: SceneObject, world: World) -> list[int]:
    return [round(v / world.grid) for v in (obj.x, obj.y)]


def _direction_and_steps(value: str) -> list[str | int]:
    direction, steps = value.split(".")
    return [direction, int(steps)]


def world_block(document: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    """The `world` block that `properties.json` describes; without it, that of published TRANCE.

    Raises:
        DataError: it is no such document, or has shapes or materials that are unknown here.
    """
    world = load_config("trance").world.to_json()
    world["directions"] = FRONT_IS_AWAY
    if document is None:
        return world
    try:
        sizes, colors = document["size"], document["color"]
        coordinate, moves = document["coordinate"], document["position"]
        for table, key in (("shapes", "shape"), ("materials", "material")):
            unknown = sorted(set(document[key]) - set(world[table]))
            if unknown:
                known = ", ".join(world[table])
                raise DataError(f"{where}: {key}: {unknown[0]} is unknown; known are {known}")
            world[table] = {name: world[table][name] for name in document[key]}
        limits = [abs(coordinate[f"{p}{a}_{e}"]) for p in ("", "vis_") for a in "xy" for e in ENDS]
        if len(set(limits[:4])) != 1 or len(set(limits[4:])) != 1:
            raise DataError(f"{where}: coordinate: the areas are not squares around the origin")
        return {
            **world,
            "sizes": {name: sizes[name] for name in sorted(sizes, key=lambda s: sizes[s])},
            "colors": {name: list(rgb) for name, rgb in colors.items()},
            "grid": coordinate["unit"],
            "step": coordinate["step"],
            "gap": coordinate["min_gap"],
            "valid_area": limits[0],
            "visible_area": limits[4],
            "directions": {name: list(step) for name, step in moves["direction"].items()},
            "steps": list(moves["step"]),
        }
    except (KeyError, TypeError, AttributeError) as problem:
        raise DataError(f"{where}: is no properties.json of TRANCE ({problem!r})") from None


ENDS = ("min", "max")


def agrees(document: Mapping[str, Any], directions: Mapping[str, Any], cells: int) -> bool:
    """Whether the moves of a sample lead where they are recorded to, in these directions.

    Args:
        document: a sample that fits `trance.schema.json`.
        cells: how many steps of the grid one step of a move is.
    """
    first, last = document["states"][0]["objects"], document["states"][-1]["objects"]
    places = [list(o["position"]) for o in first]
    for t in document["transformations"]:
        if t["attr"] == "position":
            direction, steps = t.get("val", t.get("target"))
            if direction not in directions or t["obj_idx"] >= len(places):
                return False
            for axis in (0, 1):
                places[t["obj_idx"]][axis] += directions[direction][axis] * steps * cells
    return places == [list(o["position"]) for o in last]


def read_plan(document: Mapping[str, Any], world: World, config: DatasetConfig) -> Plan:
    """The plan behind a sample of TRANCE.

    What was not published is that of the preset: camera and lamp positions without their jitter,
    and rotations of 0.

    Args:
        document: a sample that fits `trance.schema.json`.
        config: of the data set it is imported into.
    """
    first, last = (document["states"][k] for k in (0, -1))
    rotations = [float(o.get("rotation", 0.0)) for o in first["objects"]]
    named, lamps = config.cameras.named, config.lights.lamps
    cameras = {n: camera.position for n, camera in named.items()}
    cameras |= {our_camera(n): tuple(p) for n, p in document.get("cameras", {}).items()}
    places = {n: lamp.position for n, lamp in lamps.items()}
    for name, place in document.get("lamps", {}).items():
        short = name.removeprefix("Lamp_").lower()
        if short in places:
            places[short] = tuple(place)
    views = [
        (name, our_camera(camera))
        for name, state in (("initial", first), ("final", last))
        for camera in sorted(state["images"])
    ]
    return Plan(
        id=sample_id(document["idx"]),
        seed=0,
        preset=config.preset,
        cameras={n: Camera(p) for n, p in cameras.items() if n in {c for _, c in views}},
        views=tuple(views),
        lights={
            n: Light(places[n], lamp.color, lamp.size, lamp.power) for n, lamp in lamps.items()
        },
        initial=_read_state(first["objects"], rotations, world),
        final=_read_state(last["objects"], rotations, world),
        transformations=tuple(_read_transformation(t) for t in document["transformations"]),
    )


def _read_state(
    objects: Sequence[Mapping[str, Any]], rotations: Sequence[float], world: World
) -> State:
    """Objects in their order; one without a rotation, or a place in `rotations`, has 0."""
    return tuple(
        SceneObject(
            index=k,
            shape=o["shape"],
            size=o["size"],
            color=o["color"],
            material=o["material"],
            x=on_grid(o["position"][0] * world.grid),
            y=on_grid(o["position"][1] * world.grid),
            rotation=rotations[k] if k < len(rotations) else 0.0,
        )
        for k, o in enumerate(objects)
    )


def _read_transformation(document: Mapping[str, Any]) -> Transformation:
    value = document.get("val", document.get("target"))
    text = value if isinstance(value, str) else f"{value[0]}.{value[1]}"
    return Transformation(document["obj_idx"], document["attr"], text)

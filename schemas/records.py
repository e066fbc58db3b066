"""The records of a data set, and their form in `sample.json` and the split files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.plan import Light, Plan
from star_tvr.scenes.states import SceneObject, State
from star_tvr.scenes.transformations import Transformation, answer_text, with_equivalents
from star_tvr.scenes.world import World

SCHEMA_VERSION = 3
"""Of what is written. Versions 1 and 2 chose other scenes; transformations of version 1 have no
equivalents."""

Relations = Mapping[str, Mapping[int, tuple[int, ...]]]


@dataclass(frozen=True)
class ObjectView:
    """One object in one image.

    Attributes:
        bbox: (x0, y0, x1, y1) of the visible pixels, x1 and y1 excluded; None if none is visible.
        pixels: number of visible pixels.
        visibility: visible pixels over those that would be visible without the other objects.
        center: (u, v), where the middle of the solid is projected, in pixels.
        depth: distance of the middle along the viewing axis, Blender units.
    """

    index: int
    bbox: tuple[int, int, int, int] | None
    pixels: int
    visibility: float
    center: tuple[float, float]
    depth: float


@dataclass(frozen=True)
class Image:
    """One rendered image and its labels; all files are names in the sample's folder.

    Attributes:
        mask: 8-bit palette PNG, object index + 1.
        depth: 16-bit PNG; a value times `depth_scale` is the distance along the viewing axis in
            Blender units, 0 is nothing or farther than the format reaches.
        normals: 8-bit PNG, (normal + 1) / 2 * 255 in the axes of the camera.
        blend: Blender's file of the scene as it was rendered.
    """

    state: str
    camera: str
    path: str
    mask: str | None
    width: int
    height: int
    objects: tuple[ObjectView, ...]
    relations: Relations
    depth: str | None = None
    depth_scale: float | None = None
    normals: str | None = None
    blend: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files that belong to this image."""
        names = (self.path, self.mask, self.depth, self.normals, self.blend)
        return tuple(name for name in names if name is not None)

    def to_json(self) -> dict[str, Any]:
        """The form stored in `sample.json`; extras that were not asked for are left out."""
        extras = ("depth", "depth_scale", "normals", "blend")
        data = {k: v for k, v in asdict(self).items() if v is not None or k not in extras}
        data["objects"] = [
            {**o, "bbox": o["bbox"] and list(o["bbox"]), "center": list(o["center"])}
            for o in data["objects"]
        ]
        data["relations"] = {
            name: {str(i): list(others) for i, others in table.items()}
            for name, table in self.relations.items()
        }
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Image":
        """Read the form stored in `sample.json`."""
        objects = tuple(
            ObjectView(
                **{**o, "bbox": o["bbox"] and tuple(o["bbox"]), "center": tuple(o["center"])}
            )
            for o in data["objects"]
        )
        relations = {
            name: {int(i): tuple(others) for i, others in table.items()}
            for name, table in data["relations"].items()
        }
        return cls(**{**data, "objects": objects, "relations": relations})


PAIR_KEYS = ("sample", "initial", "final")
"""What names a pair in lines, rows and tables."""


@dataclass(frozen=True)
class Pair:
    """One question: two images of one sample, named by their cameras. A line of a split."""

    sample: str
    initial: str
    final: str

    def to_json(self) -> dict[str, str]:
        """The form of a split line."""
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """A sample as it lies on disk: the plan, the images and how they were made."""

    plan: Plan
    images: tuple[Image, ...]
    render: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Six digits or more."""
        return self.plan.id

    def image(self, state: str, camera: str) -> Image:
        """The image of one state from one camera.

        Raises:
            KeyError: there is none.
        """
        for image in self.images:
            if (image.state, image.camera) == (state, camera):
                return image
        raise KeyError(f"{state}-{camera}")

    def pairs(self) -> list[Pair]:
        """Every combination of an initial and a final image."""
        initial, final = (
            [camera for shown, camera in self.plan.views if shown == state]
            for state in ("initial", "final")
        )
        return [Pair(self.id, a, b) for a in initial for b in final]

    def to_json(self, world: World) -> dict[str, Any]:
        """The content of `sample.json`."""
        first = self.images[0]
        data = plan_to_json(self.plan, world, first.width, first.height)
        data["images"] = [image.to_json() for image in self.images]
        data["render"] = dict(self.render)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Sample":
        """Read the (already checked) content of `sample.json`."""
        return cls(
            plan=plan_from_json(data),
            images=tuple(Image.from_json(image) for image in data["images"]),
            render=data["render"],
        )


def plan_to_json(plan: Plan, world: World, width: int, height: int) -> dict[str, Any]:
    """Everything about a sample that is known before a pixel is drawn."""
    return {
        "schema_version": SCHEMA_VERSION,
        "id": plan.id,
        "seed": plan.seed,
        "preset": plan.preset,
        **({"draw": plan.draw} if plan.draw else {}),
        **({} if plan.decision is None else {"decision": plan.decision}),
        "cameras": {
            name: camera_to_json(camera, width, height) for name, camera in plan.cameras.items()
        },
        "lights": {
            name: {**asdict(v), "position": list(v.position), "color": list(v.color)}
            for name, v in plan.lights.items()
        },
        "states": {
            name: _state_to_json(plan.state(name, world), world)
            for name in dict.fromkeys(["initial", "final", *(state for state, _ in plan.views)])
        },
        "transformations": [
            {
                "object": t.object,
                "attribute": t.attribute,
                "before": _before(plan, k, world),
                "value": t.value,
                **({"equivalents": list(t.equivalents)} if t.equivalents else {}),
            }
            for k, t in enumerate(with_equivalents(plan.initial, plan.transformations, world))
        ],
        "answer": answer_text(plan.transformations),
        "images": [{"state": state, "camera": camera} for state, camera in plan.views],
    }


def plan_from_json(data: Mapping[str, Any]) -> Plan:
    """The plan inside the (already checked) content of `sample.json`."""
    return Plan(
        id=data["id"],
        seed=data["seed"],
        preset=data["preset"],
        draw=data.get("draw", 0),
        decision=data.get("decision"),
        cameras={
            name: Camera(
                tuple(c["position"]), tuple(c["target"]), c["focal_length"], c["sensor_width"]
            )
            for name, c in data["cameras"].items()
        },
        views=tuple((image["state"], image["camera"]) for image in data["images"]),
        lights={
            name: Light(tuple(v["position"]), tuple(v["color"]), v["size"], v["power"])
            for name, v in data["lights"].items()
        },
        initial=_state_from_json(data["states"]["initial"]),
        final=_state_from_json(data["states"]["final"]),
        transformations=tuple(
            Transformation(t["object"], t["attribute"], t["value"]) for t in data["transformations"]
        ),
    )


def camera_to_json(camera: Camera, width: int, height: int) -> dict[str, Any]:
    """A camera with its matrices for images of this size."""
    return {
        "position": list(camera.position),
        "target": list(camera.target),
        "focal_length": camera.focal_length,
        "sensor_width": camera.sensor_width,
        "azimuth": round(camera.azimuth, 6),
        "elevation": round(camera.elevation, 6),
        "distance": round(camera.distance, 6),
        "intrinsics": camera.intrinsics(width, height).round(9).tolist(),
        "world_to_camera": camera.world_to_camera().round(9).tolist(),
    }


def _before(plan: Plan, step: int, world: World) -> str | list[float]:
    t = plan.transformations[step]
    obj = plan.states(world)[step][t.object]
    return list(obj.center(world)) if t.attribute == "position" else getattr(obj, t.attribute)


def _state_to_json(state: State, world: World) -> dict[str, Any]:
    return {"objects": [o.to_json(world) for o in state]}


def _state_from_json(data: Mapping[str, Any]) -> State:
    return tuple(SceneObject.from_json(o) for o in data["objects"])

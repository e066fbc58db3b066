"""The configuration of a data set: every key with its type, range, default, meaning and check.

The defaults are TRANCE's (Hong et al., CVPR 2021). What is there to be named, such as colors,
cameras and lamps, is in `presets/trance.yaml`.
"""

import itertools
import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.errors import TvrError
from star_tvr.scenes.rules import sees_area
from star_tvr.scenes.seeds import derive
from star_tvr.scenes.settings import (
    Distinct,
    Flag,
    Integer,
    LinearColor,
    Name,
    NonNegative,
    Number,
    Positive,
    Range,
    Settings,
    Share,
    Some,
    Vector,
    refuse,
)
from star_tvr.scenes.world import APPEARANCE, MOST_OBJECTS, Appearance, Attribute, World

Objects = Annotated[Integer, Field(ge=1)]
Degrees = Annotated[Number, Field(ge=-360, le=360)]
Pixels = Annotated[Integer, Field(ge=16, le=8192)]
Bounces = Annotated[Integer, Field(ge=0, le=1024)]

SPECIAL_CAMERAS = {"initial": ("random",), "final": ("orbit", "random", "same")}
"""What may stand in `cameras.initial` and `cameras.final` besides the names of cameras."""


SCENE_KEYS = ("world", "objects", "transformations", "cameras", "lights", "visibility")
"""Keys of a configuration that make a scene what it is; the others say how it is drawn."""


class ObjectsConfig(Settings):
    """How many objects there are."""

    total: Range[Objects] | None = (10, 10)
    """Number of objects in the valid area; null for just the visible ones."""
    visible: Range[Objects] = (1, 10)
    """Number of objects in the visible area at the start."""
    fixed: tuple[dict[Appearance, str], ...] = ()
    """Objects in every scene that never change, such as `{shape: cube, color: red}`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        total, visible = self.total, self.visible
        if total is not None and visible[0] > total[0]:
            refuse("visible", f"{visible[0]} objects cannot be visible when only {total[0]} exist")
        if visible[1] > MOST_OBJECTS or (total is not None and total[1] > MOST_OBJECTS):
            refuse("total", f"a mask holds at most {MOST_OBJECTS} objects")
        if len(self.fixed) >= visible[0]:
            refuse(
                "visible",
                f"{visible[0]} leaves no object to change besides {len(self.fixed)} fixed",
            )
        return self


class TransformationsConfig(Settings):
    """What may change."""

    count: Range[Annotated[Integer, Field(ge=1, le=5 * MOST_OBJECTS)]] = (1, 4)
    """Number of transformations of a sample."""
    attributes: Some[Attribute] = ("color", "shape", "size", "material", "position")
    """Attributes that may change."""
    moves: Some[Literal["inner", "out", "in"]] = ("inner", "out", "in")
    """Kinds of moves: within the visible area, out of it, into it."""
    distractors: Distinct[Literal["rotation"]] = ()
    """Changes that are no answer: `rotation` turns the unchanged objects."""


class NamedCameraConfig(Settings):
    """A camera with a name."""

    position: Vector
    """Where it is before jitter, Blender units."""
    target: Vector = (0.0, 0.0, 0.0)
    """Point that it looks at, Blender units."""
    focal_length: Positive = 35.0
    """Focal length in millimetres, for a sensor 32 mm wide."""


class ShellConfig(Settings):
    """Where random cameras are: on a spherical shell about the origin."""

    azimuth: Range[Degrees] = (-180.0, 180.0)
    """Direction on the ground, degrees from the +x axis towards +y."""
    elevation: Range[Annotated[Number, Field(ge=1, le=89)]] = (20.0, 60.0)
    """Height, degrees above the ground."""
    distance: Range[Positive] = (10.5, 12.5)
    """Distance from the target, Blender units."""
    focal_length: Range[Positive] = (35.0, 35.0)
    """Focal length in millimetres, for a sensor 32 mm wide."""
    target_jitter: NonNegative = 0.0
    """How far the target is moved along x and y at most, Blender units."""
    angle: Range[Annotated[Number, Field(ge=0, le=180)]] = (0.0, 180.0)
    """Angle between the initial and a final view, degrees."""


class CamerasConfig(Settings):
    """From where the states are seen."""

    initial: Annotated[tuple[Name, ...], Field(min_length=1)] = ("center",)
    """Cameras of the initial state: names, or `random`, drawn from the shell."""
    final: Annotated[tuple[Name, ...], Field(min_length=1)] = ("left", "center", "right")
    """Cameras of the final state: as for `initial`, or `same`, the initial cameras again, or
    `orbit`, a circle of views."""
    orbit: Annotated[Integer, Field(ge=2, le=360)] = 8
    """Number of evenly spaced views of `orbit`, the initial one included."""
    jitter: NonNegative = 0.5
    """How far each coordinate of a named camera is moved at most, Blender units."""
    named: dict[Name, NamedCameraConfig]
    """Cameras by name."""
    shell: ShellConfig = ShellConfig()
    """Where `random` cameras are."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, special in SPECIAL_CAMERAS.items():
            names: tuple[str, ...] = getattr(self, key)
            for name in names:
                if name not in self.named and name not in special:
                    known = ", ".join([*self.named, *special])
                    refuse(key, f"{name!r} is not a camera; known are {known}")
                if name != "random" and names.count(name) > 1:
                    refuse(key, f"{name!r} is named twice")
        if set(self.named) & set(SPECIAL_CAMERAS["final"]):
            refuse("named", "a camera cannot be called random, same or orbit")
        return self


class LampConfig(Settings):
    """A square area light that faces the origin."""

    position: Vector
    """Where it is before jitter, Blender units."""
    color: LinearColor
    """Color, linear RGB."""
    size: Positive
    """Length of an edge, Blender units."""
    power: NonNegative
    """Power, watts."""


class LightVariationConfig(Settings):
    """How lamps differ from sample to sample."""

    count: Range[Annotated[Integer, Field(ge=1, le=16)]] | None = None
    """Number of lamps; null for those that are named."""
    power: Annotated[Number, Field(ge=0, le=3)] = 0.0
    """Natural logarithm of the largest factor of a lamp's power."""
    color: Share = 0.0
    """Largest share by which a channel is weakened."""


class LightsConfig(Settings):
    """What lights the scene, besides the sky."""

    jitter: NonNegative = 1.0
    """How far each coordinate of a lamp is moved at most, Blender units."""
    lamps: Annotated[dict[Name, LampConfig], Field(min_length=1)]
    """Lamps by name."""
    vary: LightVariationConfig = LightVariationConfig()
    """How lamps differ from sample to sample."""

    def names(self, count: int | None = None) -> list[str]:
        """What the lamps of a sample are called that has `count`, by default those that are named.

        >>> from star_tvr.schemas.config import load_config
        >>> load_config("varied").lights.names(5)
        ['key', 'fill', 'back', 'extra-1', 'extra-2']
        """
        more = (n for k in itertools.count(1) if (n := f"extra-{k}") not in self.lamps)
        number = len(self.lamps) if count is None else count
        return list(itertools.islice(itertools.chain(self.lamps, more), number))


class VisibilityConfig(Settings):
    """What of a transformed object must be seen."""

    min_pixels: Annotated[Integer, Field(ge=0, le=320 * 240)] = 150
    """Least visible pixels of a transformed object in every view, counted at 320 x 240."""
    unbiased: Flag = False
    """Ask it of every object, in its smallest form and with all others in their largest, and leave
    every object room to grow and to make every move. Then nothing about a scene tells what changes
    in it. With moves it needs `transformations.moves: [inner]`."""


class ImageConfig(Settings):
    """The size of the images."""

    width: Pixels = 320
    """Width, pixels."""
    height: Pixels = 240
    """Height, pixels."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width * self.height > 64_000_000:
            raise ValueError(f"{self.width * self.height} pixels; at most 64,000,000 are possible")
        return self


class SurroundingsVariationConfig(Settings):
    """How the surroundings differ from sample to sample; 0 is not at all."""

    ground: Share = 0.0
    """How much the color of the ground differs."""
    background: Share = 0.0
    """How much the color of the background differs."""
    gradient: Share = 0.0
    """How much the sky differs between horizon and zenith."""
    noise: Share = 0.0
    """How much spots on the ground differ from it."""


class RenderConfig(Settings):
    """How Cycles draws. `render.quality` in a file stands for the first four keys."""

    samples: Annotated[Integer, Field(ge=1, le=65536)] = 96
    """Most samples of a pixel."""
    adaptive: Share = 0.1
    """Noise at which a pixel gets no more samples; 0 gives all of them to all."""
    denoise: Flag = True
    """Whether OpenImageDenoise goes over the image."""
    guides: Flag = False
    """Whether the denoiser also sees albedo and normals; they are noisy in glass."""
    prefilter: Literal["accurate", "fast", "none"] = "accurate"
    """What the denoiser does with its guides first."""
    max_bounces: Bounces = 4
    """Most bounces of light."""
    transparent_bounces: Bounces = 8
    """Most bounces through transparent surfaces."""
    blur_glossy: Annotated[Number, Field(ge=0, le=10)] = 2.0
    """Cycles' filter glossy: how far reflections of reflections are blurred."""
    clamp_indirect: NonNegative = 10.0
    """Cycles' clamp indirect: brightest indirect light of a sample; 0 clamps nothing."""
    threads: Annotated[Integer, Field(ge=1, le=1024)] = 1
    """Threads of one Blender process. Another number changes the last bits of images."""
    ground: LinearColor = (0.45, 0.45, 0.45)
    """Color of the ground, linear RGB."""
    background: LinearColor = (0.42, 0.42, 0.42)
    """What the ground fades into, linear RGB."""
    sky: Annotated[Number, Field(ge=0, le=100)] = 1.7
    """How many times as bright as the background the zenith is, as a light and in mirrors."""
    vary: SurroundingsVariationConfig = SurroundingsVariationConfig()
    """How the surroundings differ from sample to sample."""


class DatasetConfig(Settings):
    """The configuration of a data set."""

    preset: str
    """Name of the preset or file that it was resolved from."""
    num_samples: Annotated[Integer, Field(ge=1, le=999_999_999)] = 1000
    """Number of samples."""
    seed: Annotated[Integer, Field(ge=0)] = 0
    """Every random choice follows from it."""
    world: World
    """What objects can be and where they can be."""
    objects: ObjectsConfig = ObjectsConfig()
    """How many objects there are."""
    transformations: TransformationsConfig = TransformationsConfig()
    """What may change."""
    cameras: CamerasConfig
    """From where the states are seen."""
    lights: LightsConfig
    """What lights the scene."""
    visibility: VisibilityConfig = VisibilityConfig()
    """What of a transformed object must be seen."""
    image: ImageConfig = ImageConfig()
    """The size of the images."""
    render: RenderConfig = RenderConfig()
    """How Cycles draws."""
    intermediate: Flag = False
    """Also render the states between, from the final cameras."""
    masks: Flag = True
    """Store masks: 8-bit palette PNG, object index + 1, 0 for the background."""
    depth: Flag = False
    """Store depth: 16-bit PNG, distance along the viewing axis in steps of `depth_scale`."""
    normals: Flag = False
    """Store normals: 8-bit PNG, (normal + 1) / 2 in the axes of the camera."""
    tries: Annotated[Integer, Field(ge=1, le=1_000_000)] = 200
    """Layouts tried for one sample before it is given up."""

    @property
    def scene_seed(self) -> int:
        """What all choices of plans are drawn from: `seed`, and every key that makes a scene.

        So two configurations share no scene, whatever their seeds; and a scene stays what it is in
        another size, quality or number of samples.
        """
        recipe = self.model_dump_json(by_alias=True, include=set(SCENE_KEYS), exclude_defaults=True)
        return derive(self.seed, "scenes", recipe)

    @model_validator(mode="after")
    def _check(self) -> Self:
        world = self.world
        for attribute in APPEARANCE:
            if attribute in self.transformations.attributes and len(world.values(attribute)) < 2:
                why = f"needs two entries, or {attribute} cannot change"
                refuse(f"world.{attribute}s", why)
        if self.visibility.unbiased and "position" in self.transformations.attributes:
            self._check_unbiased_moves()
        for values in self.objects.fixed:
            world.check_values("objects.fixed", values)
        for name, named in self.cameras.named.items():
            try:
                camera = Camera(named.position, named.target)
            except TvrError as problem:
                refuse(f"cameras.named.{name}", str(problem))
            if not sees_area(camera, world, max(world.sizes.values()) + 2 * self.cameras.jitter):
                refuse(f"cameras.named.{name}", "has objects beside or behind it; move it away")
        shell = self.cameras.shell
        reach = math.sqrt(2) * (world.visible_area + shell.target_jitter)
        if shell.distance[0] < reach + 2 * max(world.sizes.values()):
            why = "is so small that objects can be behind the camera"
            refuse("cameras.shell.distance", f"{shell.distance[0]:g} {why}")
        return self

    def _check_unbiased_moves(self) -> None:
        """Where an object stands must not tell where it goes: it must be able to go anywhere."""
        if self.transformations.moves != ("inner",):
            why = "with position among the attributes needs transformations.moves=[inner]"
            refuse("visibility.unbiased", f"{why}: from one place a step leads out or does not")
        world = self.world
        longest = world.step * max(world.steps)
        if longest >= world.visible_area:
            why = "leaves no place from which every move stays in the visible area"
            refuse("world.step", f"{longest:g} in all, with visibility.unbiased, {why}")

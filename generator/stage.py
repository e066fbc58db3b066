"""The stage: Blender's scene, built once and then rearranged for every frame.

Objects, meshes and materials are made once and kept; a frame only moves objects and swaps what
they point to. Making and deleting them for every frame would be slower and leak memory.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from star_tvr.generator import blender, materials
from star_tvr.generator.errors import RenderError
from star_tvr.scenes import shapes
from star_tvr.scenes.cameras import Camera, Floats
from star_tvr.scenes.config import DatasetConfig, RenderConfig
from star_tvr.scenes.plan import Light
from star_tvr.scenes.seeds import stream
from star_tvr.scenes.states import SceneObject, State, visible_objects

GROUND_SIZE = 500.0
GROUND_LEVEL = -0.001
"""Just below the objects' flat bottoms: two faces in one plane would fight for every ray."""
GROUND_FADE = (1.1, 3.0)
"""Where the ground begins to turn into the background and where it has, in visible areas."""

ADAPTIVE_FROM = 8
"""Samples after which Cycles may find a pixel done; it looks after every sixteenth."""

FRAME_BYTES = 6 * 4
"""Bytes to a pixel that a frame has at least: colour, alpha, depth and index as floats."""

# From the axes of a camera in computer vision (y down, z forward) to Blender's (y up, z backward).
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


class Stage:
    """A scene of Blender that shows one state of a world, lit and seen as told.

    Several stages can exist in a process; they share nothing but Blender's devices.
    """

    def __init__(
        self, config: DatasetConfig, device: str = "cpu", gpu_index: int | None = None
    ) -> None:
        """Build the stage for a resolved configuration.

        Args:
            device: as named by `blender.choose_device`.
            gpu_index: the number of the one GPU to use, counted round; None for all of them.

        Raises:
            RenderError: Blender cannot be started.
        """
        self._bpy = blender.load()
        self._world = config.world
        self._device, self._gpu_index = device, gpu_index
        self._scene = self._bpy.data.scenes.new("stage")
        self._meshes = {name: self._new_mesh(name, s) for name, s in self._world.shapes.items()}
        self._materials = {
            (material, color): materials.surface(f"{color} {material}", rgb, parameters)
            for material, parameters in self._world.materials.items()
            for color, rgb in self._world.colors.items()
        }
        self._objects: list[Any] = []
        self._lamps: list[Any] = []
        self._camera = self._add("camera", self._bpy.data.cameras.new("camera"))
        self._camera.data.sensor_fit = "HORIZONTAL"
        self._camera.data.clip_start, self._camera.data.clip_end = 0.01, 2 * GROUND_SIZE
        self._scene.camera = self._camera
        self._config = config.render
        self._surroundings = self._build_surroundings()
        self.surround(0)
        self._set_up_cycles(config.render)
        self._scene.view_layers[0].use_pass_normal = config.normals
        self.resize(config.image.width, config.image.height)
        self._folder = tempfile.TemporaryDirectory(prefix="tvr-")

    # What is seen

    def show(self, state: State) -> None:
        """Put the objects of a state on the ground, those in the visible area."""
        present = visible_objects(state, self._world)
        while len(self._objects) < len(present):
            self._objects.append(self._new_object())
        for blender_object, obj in zip(self._objects, present, strict=False):
            self._dress(blender_object, obj)
        for blender_object in self._objects[len(present) :]:
            blender_object.hide_render = True

    def light(self, lights: Mapping[str, Light]) -> None:
        """Switch on these lamps and no others."""
        while len(self._lamps) < len(lights):
            lamp = self._add("lamp", self._bpy.data.lights.new("lamp", "AREA"))
            lamp.visible_camera = False
            self._lamps.append(lamp)
        for lamp, light in zip(self._lamps, lights.values(), strict=False):
            lamp.hide_render = False
            lamp.data.shape = "SQUARE"
            lamp.data.size = light.size
            lamp.data.energy = light.power
            lamp.data.color = light.color
            lamp.matrix_world = self._facing_origin(light.position)
        for lamp in self._lamps[len(lights) :]:
            lamp.hide_render = True

    def surround(self, seed: int) -> None:
        """Paint ground and sky as the configuration says, `render.vary` with this seed."""
        config, rng = self._config, stream(seed, "surroundings")

        def near(color: Sequence[float], share: float) -> list[float]:
            """A mix of this color and any other."""
            return [
                float(c + share * (r - c))
                for c, r in zip(color, rng.uniform(0, 0.8, 3), strict=True)
            ]

        vary = config.vary
        ground = near(config.ground, vary.ground)
        background = near(config.background, vary.background)
        self._surroundings.paint(
            ground,
            background,
            near(ground, vary.noise),
            near(background, vary.gradient),
            float(np.exp(rng.uniform(-1, 1.5))),
        )

    def point_camera(self, camera: Camera) -> None:
        """See the scene through this camera."""
        self._camera.data.lens = camera.focal_length
        self._camera.data.sensor_width = camera.sensor_width
        self._camera.matrix_world = _matrix(np.linalg.inv(camera.world_to_camera()) @ _FLIP)

    def resize(self, width: int, height: int) -> None:
        """Size of the frames from now on, in pixels."""
        self._scene.render.resolution_x = width
        self._scene.render.resolution_y = height
        self._scene.render.resolution_percentage = 100

    def seed(self, seed: int) -> None:
        """Choose the random numbers of the renderer; any integer will do."""
        self._scene.cycles.seed = seed % 2**31

    # What comes out

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames, in pixels."""
        return self._scene.render.resolution_x, self._scene.render.resolution_y

    def render(self) -> Path:
        """Render to a multilayer EXR file with the passes Combined, Depth and object index.

        With `normals` in the configuration also the pass Normal, in world axes.

        The file belongs to the caller, who deletes it; the next call writes to the same place.
        Blender swallows a KeyboardInterrupt and hands out what it has: ignore SIGINT meanwhile.

        Raises:
            RenderError: Blender gave up.
        """
        path = Path(self._folder.name) / "frame.exr"
        self._scene.render.filepath = str(path)
        try:
            self._bpy.ops.render.render(write_still=True, scene=self._scene.name)
        except RuntimeError as problem:  # how bpy reports every failure of an operator
            raise RenderError(f"Blender: {' '.join(str(problem).split())}") from None
        needed = self.size[0] * self.size[1] * FRAME_BYTES
        if not path.exists() or path.stat().st_size < needed:
            path.unlink(missing_ok=True)
            free = shutil.disk_usage(path.parent).free
            raise RenderError(
                f"{path.parent}: Blender could not write a frame there; "
                f"{needed / 1e6:.2f} MB are needed, {free / 1e6:.2f} MB are free; "
                f"name another folder in TMPDIR"
            )
        return path

    def save(self, path: Path) -> None:
        """Save the scene as it is now as a .blend file, which opens with it and renders it.

        Raises:
            RenderError: Blender cannot write there.
        """
        self._bpy.context.window_manager.windows[0].scene = self._scene
        try:
            self._bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True, compress=True)
        except RuntimeError as problem:
            raise RenderError(f"Blender: {' '.join(str(problem).split())}") from None

    def describe(self) -> dict[str, Any]:
        """How frames are rendered, for the `render` block of a sample."""
        cycles = self._scene.cycles
        return {
            "engine": "cycles",
            "device": self._device,
            "samples": cycles.samples,
            "denoiser": cycles.denoiser.lower() if cycles.use_denoising else None,
            "blender": blender.version(),
        }

    # How it is built

    def _build_surroundings(self) -> materials.Surroundings:
        h, z = GROUND_SIZE, GROUND_LEVEL
        mesh = self._bpy.data.meshes.new("ground")
        mesh.from_pydata([(-h, -h, z), (h, -h, z), (h, h, z), (-h, h, z)], [], [(0, 1, 2, 3)])
        near, far = (factor * self._world.visible_area for factor in GROUND_FADE)
        vary = self._config.vary
        textured = bool(vary.noise or vary.gradient)
        surroundings = materials.Surroundings((near, far), self._config.sky, textured)
        mesh.materials.append(surroundings.ground)
        self._add("ground", mesh)
        self._scene.world = surroundings.sky
        return surroundings

    def _set_up_cycles(self, settings: RenderConfig) -> None:
        """Few samples and a denoiser; measured to be the best picture for the time."""
        scene, cycles = self._scene, self._scene.cycles
        scene.render.engine = "CYCLES"
        scene.render.threads_mode = "FIXED"  # the number of threads shows in the last bits
        scene.render.threads = settings.threads
        blender.use_device(scene, self._device, self._gpu_index)
        cycles.samples = settings.samples
        cycles.use_adaptive_sampling = settings.adaptive > 0
        cycles.adaptive_threshold = settings.adaptive
        cycles.adaptive_min_samples = ADAPTIVE_FROM
        # Blue noise, which Cycles prefers, is a texture of dots to the denoiser at few samples.
        cycles.sampling_pattern = "TABULATED_SOBOL"
        cycles.use_light_tree = False
        cycles.max_bounces = settings.max_bounces
        cycles.transparent_max_bounces = settings.transparent_bounces
        cycles.blur_glossy = settings.blur_glossy
        cycles.caustics_reflective = cycles.caustics_refractive = False
        cycles.sample_clamp_indirect = settings.clamp_indirect
        cycles.use_denoising = settings.denoise
        cycles.denoiser = "OPENIMAGEDENOISE"
        cycles.denoising_input_passes = "RGB_ALBEDO_NORMAL" if settings.guides else "RGB"
        cycles.denoising_prefilter = settings.prefilter.upper()
        cycles.denoising_quality = "HIGH"
        scene.view_settings.view_transform = "Standard"
        scene.render.dither_intensity = 0.0
        scene.render.use_file_extension = False
        scene.render.use_compositing = scene.render.use_sequencer = False
        blender.write_layers(scene.render.image_settings)
        layer = scene.view_layers[0]
        layer.use_pass_object_index = layer.use_pass_z = True

    def _new_mesh(self, name: str, shape: shapes.Shape) -> Any:
        surface = shapes.mesh(shape)
        mesh = self._bpy.data.meshes.new(name)
        mesh.from_pydata(surface.vertices.tolist(), [], surface.faces)
        mesh.shade_smooth()
        mesh.normals_split_custom_set_from_vertices(surface.normals.tolist())
        mesh.materials.append(None)  # a slot; what is in it hangs on the object
        return mesh

    def _new_object(self) -> Any:
        blender_object = self._add("object", next(iter(self._meshes.values())))
        blender_object.material_slots[0].link = "OBJECT"
        return blender_object

    def _add(self, name: str, data: Any) -> Any:
        blender_object = self._bpy.data.objects.new(name, data)
        self._scene.collection.objects.link(blender_object)
        return blender_object

    def _dress(self, blender_object: Any, obj: SceneObject) -> None:
        blender_object.hide_render = False
        blender_object.data = self._meshes[obj.shape]
        blender_object.material_slots[0].material = self._materials[obj.material, obj.color]
        blender_object.location = obj.center(self._world)
        blender_object.rotation_euler = (0.0, 0.0, obj.rotation)
        blender_object.scale = (obj.radius(self._world),) * 3
        blender_object.pass_index = obj.index + 1

    @staticmethod
    def _facing_origin(position: tuple[float, float, float]) -> Any:
        from mathutils import Matrix, Vector

        place = Vector(position)
        return Matrix.LocRotScale(place, (-place).to_track_quat("-Z", "Y"), None)


def _matrix(values: Floats) -> Any:
    from mathutils import Matrix

    return Matrix(values.tolist())

"""Shaders: what the surface of an object, the ground and the sky look like.

This module knows Blender's shader nodes; which object has which surface is not its concern.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_tvr.generator import blender
from star_tvr.scenes.world import Material

INPUTS = {
    "roughness": "Roughness",
    "specular": "Specular IOR Level",
    "metallic": "Metallic",
    "transmission": "Transmission Weight",
    "ior": "IOR",
}
"""The keys of `world.materials` and the inputs of the Principled shader that they set."""

TINT = 0.35
"""How far what light passes through is lightened, where `world.materials` does not say."""

BRIGHTEST = 0.7
"""Largest share of light that an opaque surface gives back; as for real paints, or it would be lost
in white under the lamps."""

DARK = 0.25
"""What the dark parts of a pattern give back of what the others do."""

FIELDS = 4.0
"""Fields of a checkerboard, or dark stripes, to an object's radius."""


def to_linear(color: Sequence[int]) -> tuple[float, float, float]:
    """An sRGB colour, 0 to 255, as the linear values that a renderer computes with.

    >>> to_linear([255, 0, 255])
    (1.0, 0.0, 1.0)
    """
    c = np.asarray(color) / 255
    red, green, blue = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(red), float(green), float(blue)


def surface(name: str, color: Sequence[int], material: Material) -> Any:
    """A material for objects.

    Args:
        color: sRGB, 0 to 255.
        material: an entry of `world.materials`.
    """
    made, nodes, links = _material(name)
    shader = nodes.new("ShaderNodeBsdfPrincipled")
    for key, socket in INPUTS.items():
        value = getattr(material, key)
        if value is not None:
            shader.inputs[socket].default_value = value
    transmission = material.transmission or 0.0
    tint = TINT * transmission if material.tint is None else material.tint
    # A filter only takes light away: with the palette's own values glass would be nearly black.
    rgb = np.array(to_linear(color)) ** (1 - tint)
    most = BRIGHTEST + (1 - BRIGHTEST) * transmission
    rgb *= min(1.0, most / max(rgb.max(), most))
    shader.inputs["Base Color"].default_value = (*rgb, 1.0)
    if material.pattern is not None:
        links.new(_pattern(nodes, links, material.pattern, rgb), shader.inputs["Base Color"])
    result = shader.outputs["BSDF"]
    if transmission > 0:
        result = _with_clear_shadow(nodes, links, result, rgb, transmission)
    links.new(result, nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    return made


def _pattern(nodes: Any, links: Any, kind: str, rgb: NDArray[np.float64]) -> Any:
    """The color of an object on which a pattern in two shades of a color is painted."""
    place = nodes.new("ShaderNodeTexCoord")
    turned = nodes.new("ShaderNodeMapping")  # so that no face of a cube lies between two fields
    turned.inputs["Rotation"].default_value = (0.0, 0.0, np.pi / 4)
    turned.inputs["Scale"].default_value = (1.0, 1.0, 1.0) if kind == "checker" else (0.0, 0.0, 1.0)
    turned.inputs["Location"].default_value = (0.1, 0.1, 0.1)
    checker = nodes.new("ShaderNodeTexChecker")
    checker.inputs["Scale"].default_value = FIELDS
    checker.inputs["Color1"].default_value = (*rgb, 1.0)
    checker.inputs["Color2"].default_value = (*(DARK * rgb), 1.0)
    links.new(place.outputs["Object"], turned.inputs["Vector"])
    links.new(turned.outputs["Vector"], checker.inputs["Vector"])
    return checker.outputs["Color"]


def _with_clear_shadow(
    nodes: Any, links: Any, shader: Any, rgb: NDArray[np.float64], transmission: float
) -> Any:
    """Glass whose shadow is soft and coloured without tracing caustics, which are all noise."""
    path = nodes.new("ShaderNodeLightPath")
    clear = nodes.new("ShaderNodeBsdfTransparent")
    clear.inputs["Color"].default_value = (*rgb, 1.0)
    share = nodes.new("ShaderNodeMath")
    share.operation = "MULTIPLY"
    share.inputs[1].default_value = transmission
    links.new(path.outputs["Is Shadow Ray"], share.inputs[0])
    return _mix(nodes, links, share.outputs["Value"], shader, clear.outputs["BSDF"])


class Surroundings:
    """The ground, a matte plane, and the sky it turns into far away, so that there is no horizon.

    Attributes:
        ground: the material of the plane.
        sky: the world.
    """

    def __init__(self, fade: tuple[float, float], sky: float = 1.0, textured: bool = False) -> None:
        """Build the shaders; `paint` gives them their colors.

        Args:
            fade: distances from the origin, in Blender units, where the ground begins to turn
                into the background and where it has.
            sky: how many times as bright as the background the zenith is, as a light and in
                mirrors; the camera sees the background alone. Metal with nothing bright above it
                would be black.
            textured: whether there is noise on the ground and a gradient in the sky.
        """
        self.ground, nodes, links = _material("ground")
        near = nodes.new("ShaderNodeBsdfDiffuse")
        far = nodes.new("ShaderNodeEmission")
        self.ground.cycles.emission_sampling = "NONE"  # scenery; as a lamp it would cost samples
        geometry = nodes.new("ShaderNodeNewGeometry")
        length = nodes.new("ShaderNodeVectorMath")
        length.operation = "LENGTH"
        links.new(geometry.outputs["Position"], length.inputs[0])
        share = nodes.new("ShaderNodeMapRange")
        share.interpolation_type = "SMOOTHSTEP"
        share.inputs["From Min"].default_value, share.inputs["From Max"].default_value = fade
        links.new(length.outputs["Value"], share.inputs["Value"])
        mixed = _mix(
            nodes, links, share.outputs["Result"], near.outputs["BSDF"], far.outputs["Emission"]
        )
        links.new(mixed, nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
        self.sky = blender.load().data.worlds.new("sky")
        self.sky.use_nodes = True
        nodes = self.sky.node_tree.nodes
        nodes.clear()
        light = nodes.new("ShaderNodeBackground")
        output = nodes.new("ShaderNodeOutputWorld")
        self.sky.node_tree.links.new(light.outputs["Background"], output.inputs["Surface"])
        # So smooth a sky is met by chance often enough; to aim at it would double the time.
        self.sky.cycles.sampling_method = "NONE"
        height = self._brighten_zenith(light, sky)
        self._flat = (near.inputs["Color"], far.inputs["Color"], light.inputs["Color"])
        self._textures = self._add_textures(near, geometry, light, height) if textured else None

    def paint(
        self,
        ground: Sequence[float],
        background: Sequence[float],
        other: Sequence[float] | None = None,
        zenith: Sequence[float] | None = None,
        scale: float = 1.0,
    ) -> None:
        """Set the colors, linear RGB.

        Args:
            other: the second color of the ground, in spots; needs `textured`, as the next two.
            zenith: the color of the sky above.
            scale: spots to a Blender unit, roughly.
        """
        for socket, color in zip(self._flat, (ground, background, background), strict=True):
            socket.default_value = (*color, 1.0)
        if self._textures:
            noise, spots, gradient = self._textures
            noise.inputs["Scale"].default_value = scale
            for ramp, first, second in ((spots, ground, other), (gradient, background, zenith)):
                ramp.color_ramp.elements[0].color = (*first, 1.0)
                ramp.color_ramp.elements[1].color = (*(second or first), 1.0)

    def _brighten_zenith(self, light: Any, factor: float) -> Any:
        """Strength 1 at the horizon and for the camera; returns where the height is, -1 to 1."""
        nodes, links = self.sky.node_tree.nodes, self.sky.node_tree.links
        where, split = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeSeparateXYZ")
        links.new(where.outputs["Generated"], split.inputs[0])
        brighter, seen = nodes.new("ShaderNodeMapRange"), nodes.new("ShaderNodeMapRange")
        brighter.inputs["To Min"].default_value, brighter.inputs["To Max"].default_value = 1, factor
        links.new(split.outputs["Z"], brighter.inputs["Value"])
        path = nodes.new("ShaderNodeLightPath")
        links.new(path.outputs["Is Camera Ray"], seen.inputs["Value"])
        links.new(brighter.outputs["Result"], seen.inputs["To Min"])
        seen.inputs["To Max"].default_value = 1
        links.new(seen.outputs["Result"], light.inputs["Strength"])
        return split.outputs["Z"]

    def _add_textures(
        self, near: Any, geometry: Any, light: Any, height: Any
    ) -> tuple[Any, Any, Any]:
        nodes, links = self.ground.node_tree.nodes, self.ground.node_tree.links
        noise, spots = nodes.new("ShaderNodeTexNoise"), nodes.new("ShaderNodeValToRGB")
        noise.inputs["Detail"].default_value = 4.0
        spots.color_ramp.elements[0].position, spots.color_ramp.elements[1].position = 0.35, 0.65
        links.new(geometry.outputs["Position"], noise.inputs["Vector"])
        links.new(noise.outputs[0], spots.inputs[0])
        links.new(spots.outputs["Color"], near.inputs["Color"])
        nodes, links = self.sky.node_tree.nodes, self.sky.node_tree.links
        gradient = nodes.new("ShaderNodeValToRGB")
        links.new(height, gradient.inputs[0])
        links.new(gradient.outputs["Color"], light.inputs["Color"])
        return noise, spots, gradient


def _material(name: str) -> tuple[Any, Any, Any]:
    material = blender.load().data.materials.new(name)
    material.use_nodes = True
    material.node_tree.nodes.clear()
    return material, material.node_tree.nodes, material.node_tree.links


def _mix(nodes: Any, links: Any, share: Any, first: Any, second: Any) -> Any:
    mix = nodes.new("ShaderNodeMixShader")
    for socket, output in zip(mix.inputs, (share, first, second), strict=True):
        links.new(output, socket)
    return mix.outputs["Shader"]

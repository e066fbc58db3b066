"""Shaders: what the surface of an object, the ground and the sky look like.

This module knows Blender's shader nodes; which object has which surface is not its concern.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generator import blender

INPUTS = {
    "roughness": "Roughness",
    "specular": "Specular IOR Level",
    "metallic": "Metallic",
    "transmission": "Transmission Weight",
    "ior": "IOR",
}
"""The keys of `world.materials` and the inputs of the Principled shader that they set."""

GLASS_TINT = 0.35
"""How far the colours of glass are lightened: 0 is the palette, 1 is clear."""


def to_linear(color: Sequence[int]) -> tuple[float, float, float]:
    """An sRGB colour, 0 to 255, as the linear values that a renderer computes with.

    >>> to_linear([255, 0, 255])
    (1.0, 0.0, 1.0)
    """
    c = np.asarray(color) / 255
    red, green, blue = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(red), float(green), float(blue)


def surface(name: str, color: Sequence[int], parameters: Mapping[str, float]) -> Any:
    """A material for objects.

    Args:
        color: sRGB, 0 to 255.
        parameters: an entry of `world.materials`, with the keys of `INPUTS`.
    """
    material, nodes, links = _material(name)
    shader = nodes.new("ShaderNodeBsdfPrincipled")
    for key, value in parameters.items():
        shader.inputs[INPUTS[key]].default_value = value
    rgb = np.array(to_linear(color))
    transmission = parameters.get("transmission", 0.0)
    if transmission > 0:
        # A filter only takes light away: with the palette's own values glass would be nearly black.
        rgb = rgb ** (1 - GLASS_TINT * transmission)
    shader.inputs["Base Color"].default_value = (*rgb, 1.0)
    result = shader.outputs["BSDF"]
    if transmission > 0:
        result = _with_clear_shadow(nodes, links, result, rgb, transmission)
    links.new(result, nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    return material


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


def ground(
    name: str, color: Sequence[float], background: Sequence[float], fade: tuple[float, float]
) -> Any:
    """A matte plane that turns into the background far away, so that there is no horizon.

    Args:
        color, background: linear RGB.
        fade: distances from the origin, in Blender units, where that begins and where it ends.
    """
    material, nodes, links = _material(name)
    near = nodes.new("ShaderNodeBsdfDiffuse")
    near.inputs["Color"].default_value = (*color, 1.0)
    far = nodes.new("ShaderNodeEmission")
    far.inputs["Color"].default_value = (*background, 1.0)
    material.cycles.emission_sampling = "NONE"  # it is scenery; as a lamp it would cost samples
    length = nodes.new("ShaderNodeVectorMath")
    length.operation = "LENGTH"
    links.new(nodes.new("ShaderNodeNewGeometry").outputs["Position"], length.inputs[0])
    share = nodes.new("ShaderNodeMapRange")
    share.interpolation_type = "SMOOTHSTEP"
    share.inputs["From Min"].default_value, share.inputs["From Max"].default_value = fade
    links.new(length.outputs["Value"], share.inputs["Value"])
    mixed = _mix(
        nodes, links, share.outputs["Result"], near.outputs["BSDF"], far.outputs["Emission"]
    )
    links.new(mixed, nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    return material


def sky(name: str, background: Sequence[float]) -> Any:
    """A world of one colour, linear RGB, all around."""
    world = blender.load().data.worlds.new(name)
    world.use_nodes = True
    nodes = world.node_tree.nodes
    nodes.clear()
    light = nodes.new("ShaderNodeBackground")
    light.inputs["Color"].default_value = (*background, 1.0)
    output = nodes.new("ShaderNodeOutputWorld")
    world.node_tree.links.new(light.outputs["Background"], output.inputs["Surface"])
    return world


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

"""Left, right, front and behind, as one camera sees them."""

import numpy as np

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.states import SceneObject

MARGIN = 0.2
"""Blender units by which objects must differ along a direction (CLEVR, scene generation)."""


def relations(
    objects: tuple[SceneObject, ...], camera: Camera
) -> dict[str, dict[int, tuple[int, ...]]]:
    """For every relation and object, the indices of the objects that stand in it to that object.

    `relations(...)["left"][0] == (3, 4)` says that objects 3 and 4 are left of object 0. The
    directions are those of the camera's axes laid on the ground.
    """
    matrix = camera.world_to_camera()
    right, forward = matrix[0, :2], matrix[2, :2]
    axes = {
        "left": -right / np.linalg.norm(right),
        "right": right / np.linalg.norm(right),
        "front": -forward / np.linalg.norm(forward),
        "behind": forward / np.linalg.norm(forward),
    }
    ground = np.array([(o.x, o.y) for o in objects]).reshape(-1, 2)
    result: dict[str, dict[int, tuple[int, ...]]] = {}
    for name, axis in axes.items():
        along = ground @ axis
        beyond = along[None, :] - along[:, None] > MARGIN
        result[name] = {
            o.index: tuple(p.index for p, is_beyond in zip(objects, row, strict=True) if is_beyond)
            for o, row in zip(objects, beyond, strict=True)
        }
    return result

"""Pinhole cameras that look at a point: matrices, projection, and views drawn on a shell.

Camera coordinates are those of computer vision: x right, y down, z forward. Pixels have their
origin at the top left corner of the image, so the centre of the first pixel is (0.5, 0.5).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from star_tvr.scenes.errors import TvrError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Where a camera is and where it looks; its up direction is the world's z.

    Attributes:
        position, target: in Blender units.
        focal_length, sensor_width: in millimetres; the sensor's width spans the image's width.

    Raises:
        TvrError: it is straight above or below its target.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    focal_length: float = 35.0
    sensor_width: float = 32.0

    def __post_init__(self) -> None:
        if np.hypot(*self.offset[:2]) < 1e-6:
            raise TvrError(
                f"a camera at {self.position} that looks at {self.target} has no direction for up"
            )

    @property
    def offset(self) -> Floats:
        """From the target to the camera. Shape: (3,)."""
        return np.subtract(self.position, self.target)

    @property
    def distance(self) -> float:
        """From the target, in Blender units."""
        return float(np.linalg.norm(self.offset))

    @property
    def azimuth(self) -> float:
        """Degrees about z, from +x towards +y."""
        x, y, _ = self.offset
        return float(np.degrees(np.arctan2(y, x)))

    @property
    def elevation(self) -> float:
        """Degrees above the horizontal."""
        return float(np.degrees(np.arcsin(self.offset[2] / self.distance)))

    def intrinsics(self, width: int, height: int) -> Floats:
        """The matrix that takes camera coordinates to pixels. Shape: (3, 3)."""
        focal = self.focal_length / self.sensor_width * width
        return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])

    def world_to_camera(self) -> Floats:
        """The rigid transform from world to camera coordinates. Shape: (4, 4)."""
        x, y, z = (-self.offset / self.distance).tolist()
        level = math.hypot(x, y)
        right = (y / level, -x / level, 0.0)  # forward x up
        down = (x * z / level, y * z / level, -level)  # forward x right
        rotation = np.array([right, down, (x, y, z)])
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = -rotation @ np.asarray(self.position)
        return matrix

    def project(self, points: Floats, width: int, height: int) -> Floats:
        """Pixels (u, v) and depth along the viewing axis. Shapes: (n, 3) to (n, 3)."""
        matrix = self.world_to_camera()
        local = points @ matrix[:3, :3].T + matrix[:3, 3]
        pixels = local @ self.intrinsics(width, height).T
        return np.column_stack([pixels[:, :2] / pixels[:, 2:], local[:, 2]])


def angle_between(first: Camera, second: Camera) -> float:
    """Degrees between the directions from which two cameras see their targets."""
    cosine = first.offset @ second.offset / (first.distance * second.distance)
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))

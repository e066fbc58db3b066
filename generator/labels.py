"""The labels of one image, measured in its mask."""

import numpy as np
from numpy.typing import NDArray

from star_tvr.scenes.cameras import Camera
from star_tvr.scenes.relations import relations
from star_tvr.scenes.states import State, visible_objects
from star_tvr.scenes.visibility import rasterize
from star_tvr.scenes.world import World
from star_tvr.schemas.records import Image, ObjectView


def image_labels(
    mask: NDArray[np.uint8],
    state_name: str,
    state: State,
    camera_name: str,
    camera: Camera,
    world: World,
    with_mask: bool,
) -> Image:
    """Boxes, pixel counts, visibility, centres, depths and relations of one rendered image.

    Args:
        mask: object index + 1, 0 for background. Shape: (height, width).
        with_mask: whether the mask itself is stored beside the image.
    """
    height, width = mask.shape
    objects = visible_objects(state, world)
    alone = rasterize(objects, camera, world, width, height).unoccluded
    centers = np.array([o.center(world) for o in objects]).reshape(-1, 3)
    projected = camera.project(centers, width, height)
    views = []
    for obj, unoccluded, (u, v, depth) in zip(objects, alone, projected, strict=True):
        box, pixels = measure(mask, obj.index)
        views.append(
            ObjectView(
                index=obj.index,
                bbox=box,
                pixels=pixels,
                visibility=visibility(pixels, int(unoccluded)),
                center=(round(float(u), 3), round(float(v), 3)),
                depth=round(float(depth), 6),
            )
        )
    name = f"{state_name}-{camera_name}"
    return Image(
        state=state_name,
        camera=camera_name,
        path=f"{name}.png",
        mask=f"{name}.mask.png" if with_mask else None,
        width=width,
        height=height,
        objects=tuple(views),
        relations=relations(objects, camera),
    )


def measure(mask: NDArray[np.uint8], index: int) -> tuple[tuple[int, int, int, int] | None, int]:
    """Box (x0, y0, x1, y1), x1 and y1 excluded, and number of the visible pixels of an object."""
    rows, columns = np.nonzero(mask == index + 1)
    if not rows.size:
        return None, 0
    box = (
        int(columns.min()),
        int(rows.min()),
        int(columns.max()) + 1,
        int(rows.max()) + 1,
    )
    return box, int(rows.size)


def visibility(pixels: int, unoccluded: int) -> float:
    """Visible pixels over those the object would have alone, 4 decimals.

    The denominator is computed, not rendered, so single edge pixels may differ; hence the cap.
    """
    return round(min(1.0, pixels / unoccluded), 4) if unoccluded else float(pixels > 0)

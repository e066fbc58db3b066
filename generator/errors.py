"""What can go wrong with Blender."""

from star_tvr.scenes.errors import TvrError


class RenderError(TvrError):
    """Blender could not draw a sample."""

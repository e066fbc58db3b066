"""What can go wrong with a model."""

from star_tvr.scenes.errors import TvrError


class TrainingError(TvrError):
    """A model could not be loaded, trained or run."""

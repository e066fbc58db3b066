"""What can go wrong with a model."""

from star_tvr.scenes.errors import TvrError


class TrainingError(TvrError):
    """A model could not be loaded, trained or run."""


class ModelError(TrainingError):
    """A model, adapter or processor is not what it should be; the command ends with status 2."""

    exit_status = 2

"""What verifiers finds by the name of this package: `vf-eval tvr-verifiers`."""

from star_tvr.training.integrations.verifiers import TvrTaskset

__all__ = ["TvrTaskset"]

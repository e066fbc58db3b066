"""Which of TRL's settings of the loss of GRPO make sense, alone and together.

TRL takes any text for them, and ends in a traceback at the first step or trains something else than
the method that is meant, with a warning in its log at most.
"""

from collections.abc import Mapping
from typing import Any

from star_tvr.scenes.errors import ConfigError

CHOICES = {
    "loss_type": ("grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none"),
    "importance_sampling_level": ("token", "sequence"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "vllm_mode": ("server", "colocate"),
    "vllm_importance_sampling_mode": (
        *("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
    ),
}
"""What TRL's trainer knows, where its configuration takes any text."""


def check_loss(trainer: Mapping[str, Any], rewards: int) -> None:
    """Refuse settings of the loss that TRL does not know, or that undo each other.

    Args:
        trainer: fields of TRL's GRPOConfig, as far as they are set.
        rewards: how many reward functions there are.

    Raises:
        ConfigError: naming the field.
    """
    for key, known in CHOICES.items():
        if key in trainer and trainer[key] not in known:
            raise ConfigError(f"{key}: {trainer[key]!r} is not one of {', '.join(known)}")
    loss = trainer.get("loss_type", "dapo")
    sequences = trainer.get("importance_sampling_level") == "sequence"
    if sequences and loss not in ("grpo", "luspo", "sapo"):
        raise ConfigError(
            f"importance_sampling_level: with one weight for a whole answer, loss_type {loss} "
            "counts long answers more; set loss_type: grpo, which is GSPO, or luspo"
        )
    if loss == "luspo" and not sequences:
        raise ConfigError("loss_type: luspo needs importance_sampling_level: sequence")
    high = trainer.get("epsilon_high")
    if loss == "cispo" and (high is None or high < 1):
        raise ConfigError(
            "epsilon_high: is the largest weight of a token with loss_type: cispo, and the weight "
            "of an answer that was just drawn is 1; set it above 1 (ScaleRL takes 5.0)"
        )
    if trainer.get("multi_objective_aggregation") == "normalize_then_sum" and (
        "scale_rewards" in trainer
    ):
        raise ConfigError(
            "scale_rewards: does nothing with multi_objective_aggregation: normalize_then_sum, "
            "which scales each reward by its group and the sum by the batch; leave it out"
        )
    weights = trainer.get("reward_weights")
    if weights is not None and len(weights) != rewards:
        raise ConfigError(
            f"reward_weights: holds {len(weights)} numbers for {rewards} rewards: format, "
            "accuracy, and those of reward.extra that are above 0: reference, consistency, "
            "grounding, then your own in their order there"
        )

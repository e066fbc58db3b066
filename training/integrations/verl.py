"""The reward for verl 0.9; `tvr export --format verl` writes the rows for it.

data.train_files=OUT/cross-view/train.parquet
custom_reward_function.path=pkg://star_tvr.training.integrations.verl
custom_reward_function.name=compute_score
+custom_reward_function.reward_kwargs.preset=star
"""

from collections.abc import Mapping
from typing import Any

from star_tvr.training.rewards import Matching, Truth, score


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Truth,
    extra_info: Mapping[str, Any] | None = None,
    *,
    preset: str = "star",
    matching: Matching | None = None,
    weights: Mapping[str, float | bool] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    """A reward function for verl, which trains on `score` and logs the rest.

    >>> compute_score("tvr", "<answer>2.color.cyan</answer>", "2.color.cyan")
    {'score': 5.0, 'format': 0.0, 'accuracy': 5.0}

    Args:
        data_source, extra_info: not used.
        solution_str: the completion.
        ground_truth: the true answer, the column `reward_model.ground_truth`.
        preset, matching, weights: as in `training.rewards.score`.
        kwargs: what later versions of verl may pass.

    Raises:
        ConfigError: there is no such preset, matching or weight.
        TripletError: the truth is not in the answer language.
    """
    result = score(solution_str, ground_truth, preset, matching, weights)
    return {"score": result.total, "format": result.format, "accuracy": result.accuracy}

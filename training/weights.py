"""Whether what was loaded is the whole model: no weight missing or left over, all of them numbers.

The libraries fill what is missing with random numbers, and say so in a log at most.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from star_tvr.training.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def refuse_misfit(
    where: str,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Iterable[tuple[str, Any, Any]] = (),
) -> None:
    """Make sure that the files had the model's weights and no others.

    Args:
        where: the folder, for errors.
        missing, unexpected: names of weights; those that are tied to others are not missing.
        mismatched: name, shape in the file and shape in the model.

    Raises:
        ModelError: naming the first of them.
    """
    shapes = [f"{name} ({_shape(a)}, not {_shape(b)})" for name, a, b in mismatched]
    for names, words in (
        (missing, "missing"),
        (shapes, "of another shape"),
        (unexpected, "unknown to the model"),
    ):
        if found := sorted(names):
            raise ModelError(
                f"{where}: {len(found)} of the weights are {words}, such as {found[0]}; the files "
                "are incomplete or of another model, so get them again"
            )


def _shape(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def refuse_non_finite(where: str, weights: Mapping[str, "Tensor"]) -> None:
    """Make sure that weights are numbers. Raises ModelError, naming the first that is not.

    Weights that another process loads, on PyTorch's device `meta`, have no values here.
    """
    for name, weight in weights.items():
        # The eight-bit formats know no isfinite.
        judged = weight.is_floating_point() and weight.itemsize > 1 and not weight.is_meta
        if judged and not weight.isfinite().all():
            raise ModelError(
                f"{where}: {name} holds NaN or infinity; get the files again, or use an earlier "
                "checkpoint"
            )


def refuse_other_tokenizer(where: str, processor: Any, model: Any) -> None:
    """Make sure that a processor's tokens are those of a model.

    Raises:
        ModelError: it has tokens that the model has no embedding of, or marks pictures otherwise.
    """
    largest = max(processor.tokenizer.get_vocab().values(), default=-1)
    known = model.get_input_embeddings().weight.shape[0]
    marks = [getattr(owner, "image_token_id", None) for owner in (processor, model.config)]
    cure = "get the tokenizer of this model"
    # Weights that are sharded among processes show no rows.
    if known and largest >= known:
        raise ModelError(
            f"{where}: the tokenizer has tokens up to {largest}, the model knows {known}; {cure}"
        )
    if None not in marks and marks[0] != marks[1]:
        raise ModelError(
            f"{where}: the tokenizer marks pictures with token {marks[0]}, the model with "
            f"{marks[1]}; {cure}"
        )

"""What becomes of a run when the disk is full."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from star_tvr.training.errors import TrainingError
from star_tvr.training.run_folder import last_checkpoint

if TYPE_CHECKING:
    from transformers import Trainer

DISK_FULL = ("No space left on device", "Disk quota exceeded", "inline_container.cc")
"""What messages say when a write failed; the last is PyTorch's writer of archives."""


@contextmanager
def explain_full_disk(trainer: "Trainer") -> Iterator[None]:
    """Around training and saving: say in one line that the disk is full, and where to go on.

    The checkpoint that was being written is removed.

    Raises:
        TrainingError: the disk is full.
    """
    folder = Path(trainer.args.output_dir)
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as problem:
        if not disk_is_full(problem):
            raise
        good = last_checkpoint(folder) if trainer.is_world_process_zero() else None
        raise TrainingError(
            f"{folder}: the disk is full; free some space (or lower save_total_limit) "
            "and start again, training goes on from "
            f"{good.name if good else 'the beginning, as there is no checkpoint yet'}"
        ) from None


def disk_is_full(problem: BaseException) -> bool:
    """Whether this error, or one that led to it, came from a full disk or an exhausted quota.

    safetensors and PyTorch's own file format wrap the system's error or only keep its text.
    """
    chain: BaseException | None = problem
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(text in str(chain) for text in DISK_FULL):
            return True
        chain = chain.__cause__ or chain.__context__
    return False

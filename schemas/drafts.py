"""Folders that appear whole or not at all.

Everything is written into a hidden folder beside the target, which takes its name at the end.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from star_tvr.schemas.files import refuse_links, sync_folder, sync_tree, writing
from star_tvr.schemas.folders import LOCK, was_begun
from star_tvr.schemas.locks import lock_folder


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` once the block has ended without an error.

    What a killed process left is removed by the next one that has the same target.

    Args:
        out: a folder that does not exist, or is empty.

    Raises:
        ConfigError: `out` is not empty, or somebody else is writing it.
        DataError: it cannot be written.
    """
    target = out.resolve()
    draft = target.with_name(f".{target.name}.tvr-draft")
    refuse_links(draft.parent, draft)
    was_begun(out, None)
    try:
        with lock_folder(draft):
            was_begun(out, None)  # whoever had the lock before may have written it
            _remove_files(draft)  # of one that was killed
            try:
                with writing(out):
                    yield draft
                    sync_tree(draft)
                    if target.exists():
                        target.rmdir()
                    draft.rename(target)
                    sync_folder(target.parent)
            except BaseException:
                _remove_files(draft)
                raise
    finally:
        with suppress(OSError):  # it has its new name, or is another's
            draft.rmdir()


def _remove_files(folder: Path) -> None:
    """Delete all that is in a folder but its lock."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink()

"""Data for transformation-driven visual reasoning, the reward of its answers, and training.

What most programs need is imported from here: the reward of an answer, a data set's folder to read,
its questions one at a time, and a configuration to plan or render by.

>>> from star_tvr import load_config, load_dataset, score
>>> score("<think>…</think><answer>2.color.cyan</answer>", "2.color.cyan, 0.size.small").total
5.0

Everything that is installed lies below this package; its parts are the folders of their names.
`star_tvr/scenes` is a link to `scenes`, and so on: the code is at the top of the repository, and a
user's own packages called `training` or `schemas` are never in its way.
"""

TYPE_CHECKING = False  # for checkers; `typing` is not imported, so that Ctrl-C is heard early
if TYPE_CHECKING:
    from star_tvr.schemas.config import load_config
    from star_tvr.schemas.dataset import Dataset
    from star_tvr.training.episodes import Episodes
    from star_tvr.training.rewards import score

    load_dataset = Dataset.open

__all__ = ["Episodes", "load_config", "load_dataset", "score"]


def __getattr__(name: str) -> object:
    """What `__all__` names, loaded when it is first asked for: importing star_tvr costs nothing."""
    if name == "score":
        from star_tvr.training.rewards import score

        return score
    if name == "Episodes":
        from star_tvr.training.episodes import Episodes

        return Episodes
    if name == "load_config":
        from star_tvr.schemas.config import load_config

        return load_config
    if name == "load_dataset":
        from star_tvr.schemas.dataset import Dataset

        return Dataset.open
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

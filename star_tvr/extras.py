"""Which extra of the installation brings a package that is not there: `pip install 'star-tvr[…]'`.

The world, the schemas, the parser, the reward and the metrics need none of them.
"""

import sys
from importlib.util import find_spec

from star_tvr.scenes.errors import ConfigError

EXTRAS = {
    "OpenEXR": "render",
    "bpy": "render",
    "h5py": "render",
    "accelerate": "train",
    "datasets": "train",
    "huggingface_hub": "train",
    "peft": "train",
    "safetensors": "train",
    "tokenizers": "train",
    "torch": "train",
    "transformers": "train",
    "trl": "train",
    "httpx2": "ask",
    "openai": "ask",
    "matplotlib": "report",
    "pyarrow": "report",
    "sklearn": "report",
    "threadpoolctl": "report",
    "ray": "ray",
    "bitsandbytes": "quantize",
}
"""The extra for every package that code here imports and a plain installation lacks.

`train` brings h5py and pyarrow, too; those named are smaller.
"""


def require(what: str, *packages: str) -> None:
    """Refuse, before it begins, work that would end for want of a package of `EXTRAS`.

    >>> require("tvr frobnicate")

    Args:
        what: is to be done, for the message: a command.
        packages: by the names that imports know.

    Raises:
        ConfigError: which packages are not installed, and the command that installs them.
    """
    absent = [package for package in packages if find_spec(package) is None]
    if not absent:
        return
    extras = ",".join(dict.fromkeys(EXTRAS[package] for package in absent))
    are = "is" if len(absent) == 1 else "are"
    cure = f"pip install 'star-tvr[{extras}]'"
    if "bpy" in absent and sys.version_info[:2] != (3, 11):
        cure += " with Python 3.11, as there is no bpy for another"
    raise ConfigError(f"{what} needs {', '.join(absent)}, which {are} not installed: {cure}")

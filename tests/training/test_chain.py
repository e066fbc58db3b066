"""The way of a run goes forward: no module imports one that comes later in it."""

import ast
import re
from pathlib import Path

from star_tvr import training

CHAIN = re.findall(r"^    (\w+)  ", str(training.__doc__), re.MULTILINE)
FOLDER = Path(training.__file__).parent


def imported(path: Path) -> set[str]:
    """The modules of star_tvr.training that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            package, _, module = node.module.partition("star_tvr.training")
            if module.startswith("."):
                found.add(module[1:])
            elif package == "" and node.module.endswith("training"):
                found |= {alias.name for alias in node.names}
    return found


def test_no_module_imports_a_later_one():
    assert len(CHAIN) > 20 and CHAIN[-2:] == ["sft", "grpo"]
    for place, name in enumerate(CHAIN):
        unknown = imported(FOLDER / f"{name}.py") - set(CHAIN[:place]) - {"errors"}
        assert not unknown, f"{name} imports {unknown}"

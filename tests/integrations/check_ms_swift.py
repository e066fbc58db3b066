"""ms-swift imports the plug-in as `--external_plugins` does; its registry has the reward."""

import json
import sys
from pathlib import Path

from reporting import SPLIT, expected, milliseconds, report, right_answer
from swift.rewards import orms
from swift.utils import import_external_file

from star_tvr import Episodes

PLUGIN = Path(__file__).parents[2] / "examples" / "environments" / "rewards" / "ms_swift.py"

folder, export = sys.argv[1:3]
episodes = Episodes(folder, SPLIT)
import_external_file(str(PLUGIN))
reward = orms["tvr"](args=None)
rows = [json.loads(line) for line in Path(export, f"{SPLIT}.jsonl").read_text().splitlines()]
assert len(rows) == len(episodes)
columns = {"solution": [row["solution"] for row in rows], "messages": [[]] * len(rows)}
due = [expected(episodes, k) for k in range(len(episodes))]
report(
    "ms-swift",
    "import_external_file, orms",
    reward([right_answer(truth) for truth in columns["solution"]], **columns),
    reward([""] * len(rows), **columns),
    [best for best, _ in due],
    [least for _, least in due],
    milliseconds(lambda: reward([""] * len(rows), **columns)) / len(rows),
)

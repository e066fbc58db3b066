"""Writes docs/proof.md and its pictures from the folder of a proof.

python -m examples.proof.document [PROOF [DOCUMENT]]
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from examples.proof import stages
from star_tvr.scenes.errors import TvrError
from star_tvr.schemas.checks import read_json
from star_tvr.schemas.config import read_yaml
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.files import write_whole
from star_tvr.training.bootstrap import Estimate
from star_tvr.training.comparison import Comparison, compare
from star_tvr.training.config import PromptConfig
from star_tvr.training.images import open_image
from star_tvr.training.metrics import EvaluationItem, item_of
from star_tvr.training.metrics_report import MetricsReport, score_items
from star_tvr.training.predictions import read_predictions
from star_tvr.training.rewards import PRESETS, score
from star_tvr.training.rows import RowReader

EXAMPLES = 6
SMOOTHED = 10
"""Items in the picture of examples; steps that a point of the curves is the mean of."""


class Results:
    """What the policies of a proof answered to the tests.

    Attributes:
        out: the proof's folder.
        dataset: of the tests.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.dataset = Dataset.open(out / "cross-view")
        self.sample = cache(self.dataset.sample)
        self.report = cache(self._report)
        self.compare = cache(self._compare)

    def finished(self, name: str) -> bool:
        """Whether a policy was tested."""
        folders = [self.out / "evaluations" / f"{name}-{split}" for split in stages.TESTS]
        return all((folder / "metrics.json").is_file() for folder in folders)

    def completions(self, name: str, split: str) -> Mapping[object, str]:
        """The completion of every pair."""
        path = self.out / "evaluations" / f"{name}-{split}" / "predictions.jsonl"
        return {pair: given.completion for (pair, _), given in read_predictions(path).items()}

    def items(self, names: Sequence[str], *splits: str) -> list[EvaluationItem]:
        """The answers of several policies to some tests, as draws of one."""
        return [
            item_of(self.sample(p.sample).plan, p, self.dataset.world, table.get(p), draw)
            for split in splits
            for tables in [[self.completions(name, split) for name in names]]
            for p in self.dataset.split(f"cross-view/{split}")
            for draw, table in enumerate(tables)
        ]

    def _report(self, names: tuple[str, ...], *splits: str) -> MetricsReport:
        return score_items(self.items(names, *splits))

    def _compare(self, names: tuple[str, ...], others: tuple[str, ...], *splits: str) -> Comparison:
        return compare(self.report(names, *splits), self.report(others, *splits))

    def reward(self, names: Sequence[str], split: str) -> float:
        """The mean `star` reward of the greedy answers."""
        totals = [
            score(item.completion or "", [str(t) for t in item.truth]).total
            for item in self.items(names, split)
        ]
        return float(np.mean(totals))


def interval(estimate: Estimate, form: str, factor: float = 1) -> str:
    """Such as `61.2 [57.0, 65.4]`."""
    figures = (estimate.value, estimate.low, estimate.high)
    value, low, high = (format(factor * float(x or 0), form) for x in figures)
    return f"{value} [{low}, {high}]"


percent = partial(interval, form=".1f", factor=100)
signed = partial(interval, form="+.1f", factor=100)
number = partial(interval, form="+.2f")
"""`61.2 [57.0, 65.4]`; of differences, `+9.0 [+5.7, +12.0]` and `+0.41 [+0.37, +0.46]`."""


def point(estimate: Estimate) -> str:
    """`61.2`, in percent."""
    return f"{100 * (estimate.value or 0):.1f}"


def families(results: Results, scratch: bool = False) -> dict[str, tuple[str, ...]]:
    """The tested policies by title; those that differ in the seed alone stand together.

    Args:
        results: of the tests.
        scratch: those that began from random weights, or the others.
    """
    found: dict[str, tuple[str, ...]] = {}
    for policy in [*stages.CORE, *stages.FURTHER]:
        if results.finished(policy.name) and policy.scratch == scratch:
            found[policy.title] = (*found.get(policy.title, ()), policy.name)
    return found


def requirements(results: Results, found: Mapping[str, tuple[str, ...]]) -> list[dict[str, object]]:
    """What has to hold, what was found, and whether it holds."""
    star, wrong = found["GRPO, star"], found["GRPO, no-wrong"]
    known, other = stages.TESTS
    skill = results.report(("skilled",), known).overall["tacc"]
    blind = results.report(("exchanged",), known).overall["tacc"]
    gain = results.compare(star, ("skilled",), other).overall["tacc"]
    lost = results.compare(star, ("skilled",), known).overall["tacc"]
    lines = [
        ("TAcc-ID after SFT is at least 40", percent(skill), (skill.low or 0) >= 0.4),
        ("with shuffled images at most 3", percent(blind), (blind.high or 1) <= 0.03),
        ("GRPO on cross-view pairs raises TAcc-OOD", signed(gain), (gain.low or 0) > 0),
        ("and does not lower TAcc-ID", signed(lost), (lost.low or 0) >= 0),
    ]
    for title, splits in (("ID", (known,)), ("OOD", (other,)), ("both", stages.TESTS)):
        cost = results.compare(wrong, star, *splits).overall
        count, tacc = cost["count_gap"], cost["tacc"]
        lines += [
            (
                f"`no-wrong` raises n_pred - n_gt over `star` by at least 0.3: {title}",
                number(count),
                (count.value or 0) >= 0.3,
            ),
            (f"and loses TAcc: {title}", signed(tacc), (tacc.high or 0) < 0),
        ]
    return [
        {"claim": claim, "found": text, "holds": "yes" if holds else "**no**"}
        for claim, text, holds in lines
    ]


def curves(out: Path, found: Mapping[str, tuple[str, ...]], shown: Sequence[str]) -> plt.Figure:
    """Reward, TAcc, n_pred - n_gt and length over the steps, smoothed; a line for each run."""
    panels = {
        "reward": "reward that is trained on",
        "tacc": "TAcc of sampled answers, %",
        "count_gap": "n_pred − n_gt",
        "completions/mean_length": "length, tokens",
    }
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    for color, title in zip(plt.get_cmap("tab10").colors, shown, strict=False):
        for name in found.get(title, ()):
            log = (out / name / "log.jsonl").read_text().splitlines()
            lines = [line for line in map(json.loads, log) if "reward" in line]
            for ax, key in zip(axes, panels, strict=True):
                values = np.array([line[key] for line in lines]) * (100 if key == "tacc" else 1)
                window = min(SMOOTHED, len(values))
                mean = np.convolve(values, np.ones(window) / window, "valid")
                steps = [line["step"] for line in lines][window - 1 :]
                first = name == found[title][0] and ax is axes[0]
                ax.plot(steps, mean, color=color, label=title if first else None, linewidth=1.3)
    for ax, title in zip(axes, panels.values(), strict=True):
        ax.set_title(title, fontsize=11)
        ax.set_xlabel("step")
        ax.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(shown), frameon=False)
    return figure


def examples(results: Results, policies: Mapping[str, str]) -> plt.Figure:
    """Some items of the cross-view test, the first of every so many, with everybody's answer."""
    pairs = results.dataset.split("cross-view/test_ood")
    # One from the left, one from the right, and so on: they alternate in the split.
    chosen = [pairs[k * (len(pairs) // EXAMPLES // 2) * 2 + k % 2] for k in range(EXAMPLES)]
    answers = {title: results.completions(name, "test_ood") for title, name in policies.items()}
    question = RowReader(results.dataset, PromptConfig(style="compact", location="cell"))
    figure, axes = plt.subplots(
        EXAMPLES, 3, figsize=(12.5, 2.1 * EXAMPLES), width_ratios=[1, 1, 4], layout="constrained"
    )
    for line, pair in zip(axes, chosen, strict=True):
        sample = results.sample(pair.sample)
        for ax, state, camera in zip(
            line, ("initial", "final"), (pair.initial, pair.final), strict=False
        ):
            picture = open_image(results.dataset, sample, state, camera)
            ax.imshow(picture.resize((256, 256), Image.Resampling.NEAREST))
            ax.set_title(f"{state}, {camera}", fontsize=9)
            ax.axis("off")
        truth = ", ".join(str(t) for t in sample.plan.transformations)
        line[2].axis("off")
        asked = question.row(pair)["prompt"][-1]["content"][-1]["text"]
        place = {"fontsize": 9, "color": "gray", "family": "monospace"}
        line[2].text(0.64, 0.9, asked, va="center_baseline", transform=line[2].transAxes, **place)
        text = [("truth", truth, "black")]
        for title, table in answers.items():
            [result] = score_items(
                [item_of(sample.plan, pair, results.dataset.world, table[pair])]
            ).results
            said = ", ".join(result.predictions) or "(nothing)"
            said = said if len(said) < 70 else said[:70] + " …"
            text.append((title, said, "tab:green" if result.right else "tab:red"))
        for k, (title, said, color) in enumerate(text):
            y = 0.9 - 0.24 * k
            line[2].text(0, y, title, fontsize=10, color="gray", transform=line[2].transAxes)
            line[2].text(0.2, y, said, fontsize=10, color=color, transform=line[2].transAxes)
    return figure


def costs(out: Path) -> list[dict[str, object]]:
    """Minutes of every kind of stage, and how many there were."""
    records = [read_json(path) for path in (out / "stages").glob("*.json")]
    if not records:  # an older proof has one file of them all
        records = list(read_json(out / "stages.json").values())
    kinds: dict[str, list[float]] = {k: [] for k in ("render", "split", "SFT", "evaluate", "GRPO")}
    for record in records:
        command, kind, *_ = record["arguments"]
        kinds[kind.upper() if command == "train" else command].append(record["seconds"])
    return [
        {"kind": kind, "count": len(seconds), "minutes": f"{sum(seconds) / 60:.1f}"}
        for kind, seconds in kinds.items()
    ]


def write(out: Path, path: Path) -> Path:
    """Write the document, and its pictures into `images` beside it.

    Raises:
        TvrError: too little of the proof is done.
    """
    results = Results(out)
    found = families(results)
    needed = ("untrained", "sft-1", "skilled", "exchanged")
    if not {"GRPO, star", "GRPO, no-wrong"} <= found.keys() or not all(
        map(results.finished, needed)
    ):
        raise TvrError(f"{out}: run python -m examples.proof to its end first")
    best = max(
        (title for title in found if title.startswith("GRPO")),
        key=lambda title: results.report(found[title], "test_ood").overall["tacc"].value or 0,
    )
    star = found["GRPO, star"]
    shown = list(dict.fromkeys(["GRPO, star", "GRPO, no-wrong", best]))
    images = path.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    curves(out, found, shown).savefig(images / "proof-curves.png", dpi=110)
    names = {"untrained": "untrained", "after SFT": "skilled", "GRPO, star": star[0]}
    if best != "GRPO, star":
        names[best] = found[best][0]
    examples(results, names).savefig(images / "proof-examples.png", dpi=90)
    plt.close("all")
    before = {
        "untrained": ("untrained",),
        **families(results, scratch=True),
        "SFT, first part": ("sft-1",),
        "SFT, until skilled": ("skilled",),
        "the same, shuffled images": ("exchanged",),
    }
    environment = Environment(loader=FileSystemLoader(stages.HERE), undefined=StrictUndefined)
    environment.filters |= {"percent": percent, "signed": signed, "number": number, "point": point}
    text = environment.get_template("proof.md.jinja").render(
        results=results,
        requirements=requirements(results, found),
        before=before,
        policies=found,
        starts={p.name: p.start or "skilled" for p in [*stages.CORE, *stages.FURTHER]},
        others=[t for t in found if t in {f"GRPO, {name}" for name in PRESETS if name != "star"}],
        costs=costs(out),
        skill=round(100 * stages.SKILL),
        steps=read_yaml(stages.HERE / "grpo.yaml")["max_steps"],
        reading=(stages.HERE / "reading.md").read_text(),
    )
    write_whole(path, text)
    return path


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="examples.proof.document", description=__doc__)
    parser.add_argument("proof", type=Path, nargs="?", default=Path("proof"))
    parser.add_argument("document", type=Path, nargs="?", default=Path("docs/proof.md"))
    given = parser.parse_args()
    try:
        print(write(given.proof, given.document))
    except TvrError as problem:
        print(f"examples.proof.document: {problem}", file=sys.stderr)
        return problem.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())

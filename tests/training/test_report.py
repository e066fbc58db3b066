"""The report page: what it shows, that it shows it safely, and what it does when parts are gone."""

import json
import os
import random
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import yaml
from pyarrow import parquet

from star_tvr.scenes.errors import DataError
from star_tvr.scenes.transformations import Transformation
from star_tvr.schemas.card import BLIND
from star_tvr.schemas.dataset import Dataset, dumps, dumps_line
from star_tvr.schemas.records import Pair
from star_tvr.training import evaluate, report
from star_tvr.training.answers import compose
from star_tvr.training.comparison import compare
from star_tvr.training.metrics import Result
from star_tvr.training.metrics_report import read_metrics, score_file
from star_tvr.training.report import answer_gallery
from star_tvr.training.report.conditions import by_angle
from star_tvr.training.report.confusion import confusion
from star_tvr.training.report.evaluation_tables import metric_tables
from star_tvr.training.report.report_data import find_report_data

VOID = {"meta", "img", "br", "hr", "wbr", "input", "link"}
HOSTILE = (
    "<think></pre></div><script>alert(1)</script><img src=x onerror=alert(2)>"
    "<a href='http://evil.example/x'>\u202egnp.exe\u2066 \x00\x1b[31m\x9b\ud800\u200b{{ 7*7 }}"
    "</think>"
    '<answer><svg/onload=alert(3)>, 0.color.red"onmouseover="alert(4)</answer>'
)


class Page(HTMLParser):
    """A page taken apart; refuses tags that do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def images(self, kind: str) -> list[str]:
        return [
            a["src"] for t, a in self.tags if t == "img" and a["src"].startswith(f"data:{kind}")
        ]

    def check_self_contained(self) -> None:
        for tag, attributes in self.tags:
            assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
            for name, value in attributes.items():
                assert not name.startswith("on"), (tag, name)
                if name in ("src", "href", "srcset", "data", "action"):
                    assert value.startswith(("data:image/", "#")), value
        style = self.source.partition("<style>")[2].partition("</style>")[0]
        assert "url(" not in style and "@import" not in style


def write_evaluation(folder: Path, dataset: Dataset, split: str, answers, **settings) -> Path:
    """An evaluation's folder as `tvr evaluate` leaves it, with given completions by pair."""
    folder.mkdir(parents=True)
    what = {"dataset": str(dataset.root), "split": split, "model": "some/model", "adapter": None}
    (folder / "evaluation.json").write_text(dumps(what | settings))
    lines = [{**pair.to_json(), "completion": text} for pair, text in answers.items()]
    with open(folder / "predictions.jsonl", "w", encoding="utf-8", errors="replace") as file:
        file.write("".join(dumps_line(line) for line in lines))
    scored = score_file(folder / "predictions.jsonl", dataset, split)
    (folder / "metrics.json").write_text(dumps(scored.to_json()), encoding="utf-8")
    return folder


def answers_of(dataset: Dataset, split: str, skill: float, seed: int = 0) -> dict[Pair, str]:
    """Completions that are right with some probability, and otherwise name another colour."""
    rng = random.Random(seed)
    found = {}
    for pair in dataset.split(split):
        truth = list(dataset.sample(pair.sample).plan.transformations)
        if rng.random() >= skill:
            truth[0] = Transformation(truth[0].object, "color", "cyan")
        found[pair] = compose(truth, "The first image and the second image differ.")
    return found


def write_run(folder: Path, kind: str, lines, **config) -> Path:
    """A training run's folder."""
    folder.mkdir(parents=True)
    settings = {"kind": kind, "model": "some/model", "output_dir": str(folder), "seed": 1, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    state = {"kind": kind, "status": "done", "step": len(lines), "versions": {"trl": "1.16.0"}}
    (folder / "run.json").write_text(dumps(state))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def grpo_line(step: int) -> dict[str, float]:
    return {
        "step": step,
        "loss": 0.1 / step,
        "grad_norm": 0.2,
        "learning_rate": 1e-3 / step,
        "reward": 1.5 * step,
        "reward_std": 0.5,
        "rewards/format_reward/mean": 1.0,
        "rewards/accuracy_reward/mean": 1.5 * step - 1,
        "count_gap": -0.25,
        "silent": 0.125,  # as it was called
        "completions/mean_length": 20.0,
        "completions/min_length": 10.0,
        "completions/max_length": 30.0,
        # The first step has no step before it to measure from.
        **({"tokens_per_second": 100.0 * step} if step > 1 else {}),
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory, dataset) -> Path:
    """A folder like the demo's: two runs, and two evaluations of each of two splits."""
    root = tmp_path_factory.mktemp("reports") / "study"
    sft = write_run(
        root / "sft", "sft", [{"step": k, "loss": 1 / k} for k in range(1, 4)], model="tiny"
    )
    grpo = write_run(root / "grpo", "grpo", [grpo_line(k) for k in range(1, 6)], model=str(sft))
    for split in ("test_id", "test_ood"):
        for name, skill, adapter in (("before", 0.0, None), ("after", 0.8, str(grpo))):
            folder = root / "evaluations" / f"{name}-{split}"
            answers = answers_of(dataset, f"cross-view/{split}", skill)
            settings = {"model": str(sft), "adapter": adapter}
            write_evaluation(folder, dataset, f"cross-view/{split}", answers, **settings)
    return root


def test_page_of_a_whole_study(study, dataset):
    path = report.run(study)
    assert path == study / "report.html"
    page = Page(path)
    page.check_self_contained()

    assert "2 training runs and 4 evaluations." in page.text
    assert "a check of the machinery, not a result" in page.text
    for label in ("TAcc-OOD, % ↑", "pair accuracy, % ↑", "NDiff ↓", "n_pred − n_gt", "format rate"):
        assert label in page.text
    scored = score_file(
        study / "evaluations" / "after-test_ood" / "predictions.jsonl",
        dataset,
        "cross-view/test_ood",
    )
    tacc = scored.overall["tacc"]
    cell = f"{100 * tacc.value:.1f} [{100 * tacc.low:.1f}, {100 * tacc.high:.1f}]"
    assert cell in page.text
    assert "after-test_ood − before-test_ood" in page.text
    assert "Not measured here and not comparable directly" in page.text
    assert "61.4" in page.text and "2505.15804" in page.text

    curves = [a["alt"] for t, a in page.tags if t == "img" and "at first" in a["alt"]]
    assert "Reward, total, points. grpo: 1.5 at first, 7.5 at last" in curves
    assert any(words.startswith("Empty completions, share, %") for words in curves)
    speed = "Speed of training, tokens per second. grpo: 200 at first, 500 at last"
    assert speed in curves
    assert len(page.images("image/svg+xml")) == len(curves) + 4 + 1
    # Two questions of test_id and four of test_ood, each with two pictures.
    assert len(page.images("image/jpeg")) == 2 * (2 + 4)


def test_curves_of_validation(tmp_path):
    def validated(step):
        return {
            "step": step,
            **{"eval_tacc": step / 8, "eval_tacc_low": step / 16, "eval_tacc_high": step / 6},
            **{"eval_reward": -1.0, "eval_reward_low": -2.0, "eval_reward_high": 0.5},
        }

    lines = [line for k in (2, 4) for line in (grpo_line(k), validated(k))]
    run = write_run(tmp_path / "run", "grpo", lines)
    state = json.loads((run / "run.json").read_text())
    best = {"step": 4, "checkpoint": "checkpoint-4", "tacc": 0.5}
    (run / "run.json").write_text(json.dumps(state | {"best": best}))
    page = Page(report.run(tmp_path))
    curves = [a["alt"] for t, a in page.tags if t == "img" and "at first" in a["alt"]]
    words = "Right in full, validation (TAcc), share, %. run: 25 at first, 50 at last"
    assert curves[0] == words
    assert "The bands of validation are 95 % bootstrap intervals." in page.text
    assert "step 4, checkpoint checkpoint-4, tacc 0.5" in page.text


def test_the_same_folder_gives_the_same_page(study, tmp_path):
    first = report.run(study, tmp_path / "new" / "a.html").read_bytes()
    assert first == report.run(study, tmp_path / "b.html").read_bytes()


def test_models_are_shown_in_the_order_of_their_training(study):
    found = find_report_data(study)
    assert [r.name for r in found.runs] == ["sft", "grpo"]
    names = [e.name for e in found.evaluations]
    assert names == ["before-test_id", "after-test_id", "before-test_ood", "after-test_ood"]
    assert all(r.tiny for r in found.runs) and all(e.tiny for e in found.evaluations)


def test_a_hostile_completion_is_only_text(dataset, tmp_path):
    split = "cross-view/test_ood"
    answers = answers_of(dataset, split, 0.0)
    first, second, third, fourth = answers
    answers[first] = HOSTILE
    answers[second] = "<answer>" + "x" * 1_000_000 + "</answer>"
    answers[third] = "<answer>" + "</script><script>1</script>," * 20_000 + "</answer>"
    answers[fourth] = "a" + "\u0301" * 100_000 + "\n" * 100_000
    folder = tmp_path / "<b>$x_{y$ \u202e&quot;"
    write_evaluation(folder / "one", dataset, split, answers, model="<i>m</i>")
    write_evaluation(folder / "_two", dataset, split, answers)
    write_run(folder / "_run$", "grpo", [grpo_line(1), grpo_line(2)])
    path = report.run(folder)
    page = Page(path)
    page.check_self_contained()
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]", page.source
    )
    assert "<script>alert(1)</script>" in page.text  # as text, with the rest of the completion
    assert "[U+202E]gnp.exe[U+2066] [U+0000][U+001B][31m[U+009B]" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "<i>m</i>" in page.text
    assert "998,417 characters left out" in page.text
    assert not {t for t, _ in page.tags} & {"script", "b", "i", "svg"}
    assert path.stat().st_size < 2_000_000


def test_only_a_log(tmp_path):
    (tmp_path / "log.jsonl").write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n{"step": 3, "loss": 1.0}\n{"step": 4, '
    )
    page = Page(report.run(tmp_path))
    assert "1 training run." in page.text
    assert "1 damaged line left out" in page.text
    assert "last logged step 3" in page.text
    assert len(page.images("image/svg+xml")) == 1


def test_a_run_without_a_step_yet(tmp_path):
    write_run(tmp_path / "run", "grpo", [])
    (tmp_path / "run" / "run.json").write_text(dumps({"kind": "grpo", "status": "started"}))
    assert "not finished, no step logged yet" in Page(report.run(tmp_path)).text


def test_a_data_set_that_is_gone(dataset, tmp_path):
    moved = tmp_path / "discs"
    shutil.copytree(dataset.root, moved)
    opened = Dataset.open(moved)
    split = "cross-view/test_ood"
    for name, skill in (("before", 0.0), ("after", 1.0)):
        answers = answers_of(opened, split, skill)
        write_evaluation(tmp_path / "study" / name, opened, split, answers)
    shutil.rmtree(moved)
    page = Page(report.run(tmp_path / "study"))
    assert f"before: its data set is not at {moved}, so there are no pictures" in page.text
    assert "after − before" in page.text and "+100.0 ▲ better" in page.text
    assert page.images("image/jpeg") == []

    # It is found again by its name once it is part of the folder.
    shutil.copytree(dataset.root, tmp_path / "study" / "discs")
    page = Page(report.run(tmp_path / "study"))
    assert "so there are no pictures" not in page.text
    assert len(page.images("image/jpeg")) == 8


def test_a_data_set_with_other_answers_is_not_shown(dataset, tmp_path):
    other = tmp_path / "discs"
    shutil.copytree(dataset.root, other)
    opened = Dataset.open(other)
    split = "cross-view/test_id"
    write_evaluation(tmp_path / "e", opened, split, answers_of(opened, split, 0.0))
    first, second = (opened.folder(pair.sample) for pair in opened.split(split))
    shutil.rmtree(first)
    shutil.copytree(second, first)
    page = Page(report.run(tmp_path / "e"))
    assert f"sample {first.name} has another answer now" in page.text
    assert len(page.images("image/jpeg")) == 2


def test_a_damaged_picture(dataset, tmp_path):
    copy = tmp_path / "discs"
    shutil.copytree(dataset.root, copy)
    opened = Dataset.open(copy)
    split = "cross-view/test_id"
    broken = opened.folder(opened.split(split)[0].sample) / "initial-center.png"
    broken.write_bytes(broken.read_bytes()[:60])
    write_evaluation(tmp_path / "e", opened, split, answers_of(opened, split, 0.0))
    page = Page(report.run(tmp_path / "e"))
    assert f"{broken}: the image is damaged" in page.text
    assert len(page.images("image/jpeg")) == 2


def test_an_evaluation_that_was_interrupted(dataset, tmp_path):
    split = "cross-view/test_ood"
    answers = answers_of(dataset, split, 1.0)
    answers.popitem()
    folder = write_evaluation(tmp_path / "e", dataset, split, answers)
    (folder / "metrics.json").unlink()
    page = Page(report.run(folder))
    assert "e: questions without an answer, which count as wrong: 1 of 4." in page.text
    assert "no answer to this question" in page.text
    assert "75.0" in page.text


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"missing": 0, "metrics": {"tacc": 3}, "by": {}}', '{"missing": "x"}'],
)
def test_damaged_metrics_do_not_hide_the_rest(dataset, tmp_path, content):
    split = "cross-view/test_id"
    for name in ("good", "bad"):
        answers = answers_of(dataset, split, 1.0)
        write_evaluation(tmp_path / name, dataset, split, answers)
    (tmp_path / "bad" / "metrics.json").write_text(content)
    page = Page(report.run(tmp_path))
    assert "1 evaluation." in page.text
    assert f"{tmp_path / 'bad' / 'metrics.json'}: " in page.text


def test_predictions_that_cannot_be_scored(dataset, tmp_path):
    split = "cross-view/test_id"
    folder = write_evaluation(tmp_path / "e", dataset, split, {})
    (folder / "metrics.json").unlink()
    (folder / "evaluation.json").write_text(dumps({"dataset": "/nowhere", "split": split}))
    page = Page(report.run(tmp_path))
    assert "has no metrics.json, and its data set is not there" in page.text
    assert "(/nowhere)" in page.text


def test_nothing_to_report(dataset, tmp_path):
    for folder, words in (
        (tmp_path, "neither a training run (run.json, log.jsonl) nor an evaluation"),
        (dataset.root, "nothing to report"),
        (tmp_path / "none", "is not a folder"),
    ):
        with pytest.raises(DataError) as caught:
            report.run(folder)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        report.run(study, tmp_path / "file" / "page.html")


def test_a_real_evaluation_of_a_tiny_model(dataset, tiny, tmp_path):
    evaluate.run(
        dataset.root,
        "cross-view/test_id",
        str(tiny["tiny"]),
        tmp_path / "e",
        max_new_tokens=4,
        device="cpu",
    )
    page = Page(report.run(tmp_path / "e"))
    page.check_self_contained()
    assert "a check of the machinery, not a result" in page.text
    assert len(page.images("image/jpeg")) == 4


def test_another_model_is_not_called_tiny(dataset, tmp_path):
    split = "cross-view/test_id"
    write_evaluation(tmp_path / "e", dataset, split, answers_of(dataset, split, 0.5))
    assert "not a result" not in Page(report.run(tmp_path)).text


def test_metrics_read_back_are_the_ones_written(study, dataset):
    reports = []
    for name in ("before", "after"):
        folder = study / "evaluations" / f"{name}-test_ood"
        scored = score_file(folder / "predictions.jsonl", dataset, "cross-view/test_ood")
        assert read_metrics(folder / "metrics.json") == scored
        reports.append(scored)
    read = [
        read_metrics(study / "evaluations" / f"{name}-test_ood" / "metrics.json")
        for name in ("before", "after")
    ]
    assert compare(*read) == compare(*reports)


def test_what_training_logged_is_escaped(tmp_path):
    folder = write_run(tmp_path / "run", "grpo", [grpo_line(1)])
    (folder / "completions").mkdir()
    rows = [
        {
            "step": 1,
            "completion": [{"role": "assistant", "content": text}],
            "truth": "2.color.cyan",
            "sample": "000000",
            "initial": "center",
            "final": "left",
        }
        for text in (HOSTILE.replace("\ud800", ""), "<answer>2.color.cyan</answer>", "nothing")
    ]
    parquet.write_table(
        pyarrow.Table.from_pylist(rows), folder / "completions" / "completions_00001.parquet"
    )
    (folder / "completions" / "completions_00002.parquet").write_bytes(b"PAR1")
    page = Page(report.run(folder))
    page.check_self_contained()
    assert (
        "Step 1, sample 000000, center to left. Truth: 2.color.cyan . STAR reward 5.0" in page.text
    )
    assert page.text.index("STAR reward 5.0") < page.text.index("STAR reward −1.0")


def test_logs_of_completions_that_are_none_are_left_out(tmp_path):
    folder = write_run(tmp_path / "run", "grpo", [grpo_line(1)])
    log = folder / "completions" / "completions_00001.parquet"
    log.parent.mkdir()
    line: dict[str, Any] = {
        "completion": "x",
        "truth": "2.color.cyan",
        "sample": "000000",
        "initial": "center",
    }
    rows = [
        {**line, "final": "shown", "step": 1},
        {**line, "final": "odd-truth", "step": 1, "truth": "2"},
        {**line, "final": "no-step", "step": None},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), log)
    text = Page(report.run(folder)).text
    assert "center to shown" in text and "odd-truth" not in text and "no-step" not in text
    for change in ({"step": [1]}, {"completion": 3}, {"truth": 1.5}):
        parquet.write_table(pyarrow.Table.from_pylist([{**rows[0], **change}]), log)
        assert "center to shown" not in Page(report.run(folder)).text
    log.unlink()
    os.mkfifo(log)  # would wait for its writer
    assert "center to shown" not in Page(report.run(folder)).text


def result(
    truth: str,
    predictions: str,
    final: str = "center",
    sample: str = "000000",
    angle: float | None = 0.0,
) -> Result:
    """A scored item with these triplets, whatever its scene."""
    return Result(
        pair=Pair(sample, "center", final),
        truth=tuple(truth.split(", ")),
        predictions=tuple(filter(None, predictions.split(", "))),
        completion="",
        objects=4,
        angle=angle,
        counts={"tacc": (float(truth == predictions), 1.0)},
    )


def test_confusion_counts_by_hand(dataset):
    results = [
        result("0.size.small", "0.size.small"),
        result("0.size.small", "0.size.large, 1.size.medium"),
        result("0.size.large", "0.size.large, 0.size.small, 0.size.huge"),
        result("0.size.medium", "0.color.red, 1.size.medium, junk"),
        result("0.color.red", "0.size.small"),
    ]
    found = confusion(results, "size", dataset)
    assert list(found.columns) == ["small", "medium", "large", "other", "not named"]
    counts = [[count for count, _ in cells] for cells, _ in found.rows]
    assert counts == [[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [1, 0, 1, 1, 0]]
    assert [n for _, n in found.rows] == [2, 1, 1]
    assert found.rows[0][0][0] == (1, 0.5)
    without = confusion(results, "size", None)
    assert list(without.values) == ["large", "medium", "small"]
    counts = [[count for count, _ in cells] for cells, _ in without.rows]
    assert list(without.columns) == ["large", "medium", "small", "other", "not named"]
    assert counts == [[1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [1, 0, 1, 0, 0]]


def test_triplets_are_marked_by_hand():
    truth = ["0.size.small", "1.color.red", "2.shape.cube"]
    said = "<think></think><answer>0.size.small, 1.color.blue, 7.color.red, a cube</answer>"
    answer = answer_gallery.judge("model", said, truth, False)
    assert [(triplet.text, triplet.kind) for triplet in answer.triplets] == [
        ("0.size.small", "right"),
        ("1.color.blue", "partly"),
        ("7.color.red", "wrong"),
        ("acube", "wrong"),
        ("2.shape.cube", "missed"),
    ]
    assert answer.reward == 1 + 5 + 1.5 - 2
    silent = answer_gallery.judge("model", None, truth[:1], False)
    assert [triplet.kind for triplet in silent.triplets] == ["none", "missed"]


def test_the_gallery_prefers_failures_of_all_kinds():
    wrong = [
        result("0.size.small", "", camera, sample=f"{k:06d}")
        for camera in ("center", "left", "right")
        for k in range(20)
    ]
    right = [result("0.size.small", "0.size.small", sample=f"{k:06d}") for k in range(20)]
    chosen = answer_gallery.choose(right + wrong, 12)
    assert [r.right for r in chosen] == [False] * 9 + [True] * 3
    assert sorted(r.pair.final for r in chosen[:9]) == ["center"] * 3 + ["left"] * 3 + ["right"] * 3
    assert len(answer_gallery.choose(right + wrong[:2], 12)) == 12
    assert len(answer_gallery.choose(wrong[:2], 12)) == 2
    assert answer_gallery.choose([], 12) == []


def test_accuracy_by_angle_by_hand():
    results = [
        result("0.size.small", "0.size.small", angle=0.0, sample="000000"),
        result("0.size.small", "", "left", angle=34.0, sample="000001"),
        result("0.size.small", "0.size.small", "left", angle=44.9, sample="000002"),
        result("0.size.small", "", "left", angle=179.0, sample="000003"),
        result("0.size.small", "", "left", angle=None, sample="000004"),
    ]
    found = by_angle(results)
    assert {name: (e.value, e.count) for name, e in found.items()} == {
        "same view": (1.0, 1),
        "30–45°": (0.5, 2),
        "165–180°": (0.0, 1),
    }


def test_many_evaluations_get_several_tables(dataset, tmp_path):
    split = "cross-view/test_id"
    for k in range(14):
        answers = answers_of(dataset, split, 0.5, seed=k)
        write_evaluation(tmp_path / f"run-{k}", dataset, split, answers)
    found = find_report_data(tmp_path)
    assert [e.name for e in found.evaluations] == [f"run-{k}" for k in range(14)]
    assert [len(t.columns) for t in metric_tables(found.evaluations)] == [6, 6, 2]
    page = Page(report.run(tmp_path))
    assert "The figures leave out 6 further evaluations" in page.text


def test_several_answers_to_a_question(dataset, tmp_path):
    """pass@k survives the way through metrics.json."""
    name = dataset.split_names()[0]
    lines = [
        {**pair.to_json(), "completion": completion, "draw": draw}
        for pair in dataset.split(name)
        for draw, completion in enumerate(
            ["", compose(dataset.sample(pair.sample).plan.transformations)]
        )
    ]
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text("".join(map(dumps_line, lines)))
    scored = score_file(predictions, dataset, name)
    (tmp_path / "metrics.json").write_text(dumps(scored.to_json()))
    read = read_metrics(tmp_path / "metrics.json")
    assert [read.pass_at[k].value for k in (1, 2)] == [0.5, 1.0]
    assert read.pass_at == scored.pass_at
    assert [r.draw for r in read.results] == [r.draw for r in scored.results]


def test_what_can_be_learnt_without_the_pictures(dataset, tmp_path):
    copies = []
    for name in ("leaky", "damaged", "silent"):
        opened = Dataset.open(shutil.copytree(dataset.root, tmp_path / name))
        answers = answers_of(opened, "cross-view/test_id", 0.5)
        for time in ("before", "after"):
            folder = tmp_path / "study" / f"{name}-{time}"
            write_evaluation(folder, opened, "cross-view/test_id", answers)
        copies.append(opened.root)
    leak = {"question": "object", "title": "an object <b>that</b> changes", "asked": 1200}
    shares = {"right": 0.525, "low": 0.5, "high": 0.55, "chance": 0.4}
    even = {"question": "value", "title": "the new value", "asked": 1200, **shares, "chance": 0.51}
    document = {"samples": 4000, "questions": [leak | shares, even]}
    (copies[0] / BLIND).write_text(dumps(document))
    (copies[1] / BLIND).write_text("[]")
    page = Page(report.run(tmp_path / "study"))
    page.check_self_contained()
    assert page.text.count("What can be learnt without the pictures") == 1
    assert (
        "leaky, 4,000 scenes right, % chance, % asked "
        "an object <b>that</b> changes (leaks) 52.5 [50.0, 55.0] 40.0 1,200 "
        "the new value 52.5 [50.0, 55.0] 51.0 1,200"
    ) in page.text
    assert page.text.count(f"{copies[1] / BLIND}: ") == 1
    (copies[0] / BLIND).unlink()
    (copies[1] / BLIND).unlink()
    assert "without the pictures" not in Page(report.run(tmp_path / "study")).text

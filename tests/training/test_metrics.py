"""The metrics: worked by hand on a small scene, and from files of predictions."""

import io
import json
import shutil
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from star_tvr.scenes.errors import DataError
from star_tvr.scenes.states import SceneObject
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import Dataset, dumps_line
from star_tvr.schemas.records import Pair
from star_tvr.training.answers import compose, parse_truth
from star_tvr.training.baselines import SILENCE, enumeration
from star_tvr.training.bootstrap import bootstrap
from star_tvr.training.comparison import WinCounts, compare
from star_tvr.training.metric_tables import comparison_table, group_table, metrics_table
from star_tvr.training.metrics import METRICS, EvaluationItem, score_item
from star_tvr.training.metrics_report import objects_bin, pass_at_k, score_file, score_items

WORLD = load_config("trance").world
ATTRIBUTES = ("color", "shape", "size", "material", "position")

# Objects 0, 1 and 2 are in the visible area (up to 3.0); 3 is outside it, where 0 may go.
SCENE = (
    SceneObject(0, "cube", "small", "red", "metal", 2.4, 0.0, 0.0),
    SceneObject(1, "sphere", "medium", "blue", "glass", 0.0, 0.0, 0.0),
    SceneObject(2, "cylinder", "large", "gray", "rubber", -1.65, 0.0, 0.0),
    SceneObject(3, "cube", "small", "cyan", "metal", 5.4, 0.0, 0.0),
)


def item(truth, answer, sample="000000", final="left"):
    """A question about SCENE and an answer in the right form."""
    completion = None if answer is None else f"<think></think><answer>{answer}</answer>"
    return EvaluationItem(
        Pair(sample, "center", final), SCENE, parse_truth(truth), WORLD, completion
    )


def values(truth, answer, *metrics):
    result = score_item(item(truth, answer))
    return tuple(result.value(m) for m in metrics)


CHANGES = "0.color.cyan, 1.shape.cube, 1.size.small"


@pytest.mark.parametrize(
    ("answer", "tacc", "objects", "pairs", "diff", "ndiff", "gap"),
    [
        ("0.color.cyan, 1.shape.cube, 1.size.small", 1, 1, 1, 0, 0, 0),
        ("1.size.small, 0.color.cyan, 1.shape.cube", 1, 1, 1, 0, 0, 0),
        # a value is wrong: the pairs are right, one attribute differs
        ("0.color.blue, 1.shape.cube, 1.size.small", 0, 1, 1, 1, 1 / 3, 0),
        # an attribute is missing: the objects are right, the pairs not
        ("0.color.cyan, 1.shape.cube", 0, 1, 0, 1, 1 / 3, -1),
        # a wrong attribute: it differs, and so does the one it should have been
        ("0.material.glass, 1.shape.cube, 1.size.small", 0, 1, 0, 2, 2 / 3, 0),
        # a wrong object
        ("2.color.cyan, 1.shape.cube, 1.size.small", 0, 0, 0, 2, 2 / 3, 0),
        # one too many, which changes something
        ("0.color.cyan, 1.shape.cube, 1.size.small, 2.color.red", 0, 0, 0, 1, 1 / 3, 1),
        # one too many, which changes nothing (object 2 is gray): nothing differs, yet not right
        ("0.color.cyan, 1.shape.cube, 1.size.small, 2.color.grey", 0, 0, 0, 0, 0, 1),
        # said twice
        ("0.color.cyan, 0.color.cyan, 1.shape.cube, 1.size.small", 0, 1, 1, 0, 0, 1),
        # corrected later: the replay ends right
        ("0.color.blue, 0.color.cyan, 1.shape.cube, 1.size.small", 0, 1, 1, 0, 0, 1),
        # something that is no triplet beside it, or an object or value that does not exist
        ("0.color.cyan, 1.shape.cube, 1.size.small, done", 0, 1, 1, 0, 0, 1),
        ("0.color.cyan, 1.shape.cube, 1.size.small, 9.color.red", 0, 0, 0, 0, 0, 1),
        ("0.color.mauve, 1.shape.cube, 1.size.small", 0, 1, 1, 1, 1 / 3, 0),
        ("", 0, 0, 0, 3, 1, -3),
        (None, 0, 0, 0, 3, 1, -3),
    ],
)
def test_by_hand(answer, tacc, objects, pairs, diff, ndiff, gap):
    metrics = ("tacc", "object", "pair", "diff", "ndiff", "count_gap")
    assert values(CHANGES, answer, *metrics) == (tacc, objects, pairs, diff, ndiff, gap)


def test_by_attribute():
    metrics = ("color", "shape", "size", "material", "position")
    truth = "0.color.cyan, 1.color.red, 1.shape.cube, 2.position.left.1"
    answer = "0.color.cyan, 1.color.blue, 1.shape.cube, 1.shape.sphere, 2.position.left.2"
    assert values(truth, answer, *metrics) == (1 / 2, 1, None, None, 0)


@pytest.mark.parametrize(
    ("truth", "answer", "tacc", "acc", "loose", "diff", "position"),
    [
        # object 0 leaves from (2.4, 0): wherever it goes outside cannot be seen
        ("0.position.front-left.1", "0.position.front-left.1", 1, 1, 1, 0, 1),
        ("0.position.front-left.1", "0.position.right.2", 0, 0, 0, 1, 0),  # (2.4, 3.0) is inside
        ("0.position.front-left.1", "0.position.front-right.1", 1, 1, 1, 0, 1),
        # … onto object 3, at (5.4, 0), which cannot be seen either: an overlap
        ("0.position.front-left.1", "0.position.front.2", 1, 0, 1, 0, 1),
        # inside, the place counts
        ("1.position.left.1", "1.position.left.1", 1, 1, 1, 0, 1),
        ("1.position.left.1", "1.position.left.2", 0, 0, 0, 1, 0),
        ("1.position.left.1", "1.color.red", 0, 0, 0, 2, 0),
        # two moves that add up to the true one: the place is right, and one is too many
        ("1.position.left.2", "1.position.left.1, 1.position.left.1", 0, 1, 1, 0, 1),
        # by way of object 2's place at (-1.65, 0): the end is right, the way is not
        (
            "1.position.left.2",
            "1.position.behind.1, 1.position.left.2, 1.position.front.1",
            0,
            0,
            1,
            0,
            1,
        ),
        # out of range on the way: object 3, at (5.4, 0), would stand at (6.9, 0)
        (
            "3.position.behind-left.2",
            "3.position.front.1, 3.position.behind.1, 3.position.behind-left.2",
            0,
            0,
            1,
            0,
            1,
        ),
        # growing beside object 2, which is 1.65 away: 0.6 + 0.9 + 0.15 fits, 0.9 + 0.9 + 0.15 not
        ("1.color.red", "1.size.large, 1.size.medium, 1.color.red", 0, 0, 1, 0, None),
        # the order is free for TAcc, not for the replay: object 1 must move before it grows
        (
            "1.position.left.2, 1.size.large",
            "1.size.large, 1.position.left.2",
            1,
            0,
            1,
            0,
            1,
        ),
    ],
)
def test_moves_by_hand(truth, answer, tacc, acc, loose, diff, position):
    metrics = ("tacc", "acc", "loose_acc", "diff", "position")
    assert values(truth, answer, *metrics) == (tacc, acc, loose, diff, position)


def some_items():
    """Twelve questions on four scenes, half of them answered right."""
    truths = ["0.color.cyan", "1.shape.cube, 2.size.small", "2.material.glass", "1.position.left.1"]
    return [
        item(truth, truth if (k + j) % 2 else "0.size.large", f"{k:06d}", final)
        for k, truth in enumerate(truths)
        for j, final in enumerate(("center", "left", "right"))
    ]


def with_answer(items, answer_of):
    return [replace(i, completion=answer_of(i)) for i in items]


def test_the_truth_is_right_in_everything():
    report = score_items(with_answer(some_items(), lambda i: compose(i.truth)))
    perfect = {key: 1.0 for key in METRICS} | dict.fromkeys(("diff", "ndiff", "count_gap"), 0.0)
    assert {k: e.value for k, e in report.overall.items()} == perfect
    for key, estimate in report.overall.items():
        assert (estimate.low, estimate.high) == (perfect[key], perfect[key])
    for members in report.groups.values():
        for estimates in members.values():
            assert estimates["tacc"].value == 1


@pytest.mark.parametrize("completion", [SILENCE, "", None])
def test_silence_is_wrong_in_everything(completion):
    report = score_items(with_answer(some_items(), lambda i: completion))
    worst = dict.fromkeys(METRICS, 0.0) | {"diff": 1.25, "ndiff": 1, "count_gap": -1.25}
    worst["format"] = float(completion == SILENCE)
    assert {k: e.value for k, e in report.overall.items()} == worst
    assert report.missing == (12 if completion is None else 0)


def test_enumeration_names_every_triplet():
    completion = enumeration(SCENE, WORLD, ATTRIBUTES)
    result = score_item(replace(item("0.color.cyan", ""), completion=completion))
    assert len(result.predictions) == 4 * (8 + 3 + 3 + 3 + 16) == len(set(result.predictions))
    assert (result.value("tacc"), result.value("color"), result.value("count_gap")) == (0, 1, 131)


def test_groups():
    report = score_items(some_items())
    assert {group: list(members) for group, members in report.groups.items()} == {
        "view": ["same", "other"],
        "final": ["center", "left", "right"],
        "transformations": ["1", "2"],
        "objects": ["1-3"],
    }
    assert report.overall["tacc"].value == 0.5
    assert report.overall["tacc_id"] == report.groups["view"]["same"]["tacc"]
    assert report.overall["tacc_ood"] == report.groups["view"]["other"]["tacc"]
    assert report.groups["final"]["left"]["tacc"].count == 4
    assert report.groups["view"]["same"]["tacc_ood"].value is None
    assert report.groups["transformations"]["2"]["tacc"].value == 2 / 3
    assert report.overall["shape"].count == report.overall["position"].count == 3
    names = [objects_bin(n)[1] for n in (0, 3, 4, 6, 7, 8, 9, 10, 11)]
    assert names == ["1-3", "1-3", "4-6", "4-6", "7-8", "7-8", "9-10", "9-10", "11+"]


def test_reports_are_the_same_every_time_and_are_json():
    reports = [score_items(some_items()) for _ in range(2)]
    assert reports[0] == reports[1]
    document = json.loads(json.dumps(reports[0].to_json(), allow_nan=False))
    assert document["items"] == 12 and len(document["results"]) == 12
    assert document["metrics"]["tacc"]["value"] == 0.5
    assert document["by"]["final"]["left"]["tacc"]["count"] == 4
    assert document["results"][1]["predictions"] == ["0.color.cyan"]
    assert document["results"][1]["metrics"]["tacc"] == 1
    assert "results" not in reports[0].to_json(results=False)


def test_no_items():
    report = score_items([])
    assert report.overall["tacc"].value is None and report.overall["tacc"].count == 0
    assert report.groups["final"] == {}
    json.dumps(report.to_json(), allow_nan=False)


def test_one_item():
    tacc = score_items(some_items()[1:2]).overall["tacc"]
    assert (tacc.value, tacc.low, tacc.high, tacc.count) == (1, 1, 1, 1)


def test_bootstrap_agrees_with_scipy():
    sample = np.random.default_rng(3).random(60)
    sums = np.stack([sample, np.ones(60)], axis=1)[:, None, :]
    value, low, high = bootstrap(sums, resamples=4000)[0]
    expected = stats.bootstrap(
        (sample,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert value == pytest.approx(sample.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.006)


def test_bootstrap_draws_scenes():
    """Asking every question three times tells nothing new, so the interval stays as wide."""
    once = [i for i in some_items() if i.pair.final == "left"]
    thrice = [
        replace(i, pair=replace(i.pair, final=f)) for i in once for f in ("left", "right", "back")
    ]
    first, second = score_items(once).overall["tacc"], score_items(thrice).overall["tacc"]
    assert (first.value, first.low, first.high) == (second.value, second.low, second.high)
    assert (first.count, second.count) == (4, 12)


def numbers(estimate):
    return tuple(float(x) for x in (estimate.low, estimate.value, estimate.high))


def test_compare():
    items = some_items()
    mixed, right = score_items(items), score_items(with_answer(items, lambda i: compose(i.truth)))
    comparison = compare(right, mixed)
    assert comparison.wins["", ""] == WinCounts(both=6, first=6, second=0, neither=0)
    assert comparison.wins["final", "left"].first == 2
    assert comparison.overall["tacc"].value == 0.5
    low, value, high = numbers(comparison.overall["tacc"])
    assert 0 < low < value < high < 1
    assert numbers(comparison.overall["diff"])[1] < 0
    assert comparison.only_first == tuple(r.pair for r in mixed.results if not r.right)
    assert comparison.only_second == ()
    mirrored = compare(mixed, right)
    assert numbers(mirrored.overall["tacc"]) == (-high, -value, -low)
    same = compare(mixed, mixed).overall["tacc"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    json.dumps(comparison.to_json(), allow_nan=False)
    with pytest.raises(DataError, match="answer different questions"):
        compare(mixed, score_items(items[1:]))


def test_tables():
    report = score_items(some_items())
    console = Console(record=True, width=160, file=io.StringIO())
    for shown in (
        metrics_table(report),
        group_table(report),
        comparison_table(compare(report, report)),
    ):
        console.print(shown)
    text = console.export_text()
    assert "12 items" in text and "50.0" in text and "TAcc-OOD" in text and "+0.0" in text
    assert "without a prediction" not in text


def lines_of(dataset, split, answer_of):
    return [
        dumps_line({**pair.to_json(), "completion": answer_of(dataset.sample(pair.sample).plan)})
        for pair in dataset.split(split)
    ]


@pytest.fixture
def predictions(dataset, tmp_path):
    """The path of a file with the true answers to the other views, and its lines."""
    path = tmp_path / "predictions.jsonl"
    lines = lines_of(
        dataset, "cross-view/test_ood", lambda p: compose(p.transformations, "a\u2028b\u0085c")
    )
    path.write_text("".join(lines), encoding="utf-8")
    return path, lines


def test_score_file(dataset, predictions):
    path, lines = predictions
    report = score_file(path, dataset, "cross-view/test_ood")
    assert len(report.results) == len(lines) == 4
    assert report.overall["tacc"].value == report.overall["tacc_ood"].value == 1
    assert report.overall["tacc_id"].value is None
    assert [r.pair for r in report.results] == dataset.split("cross-view/test_ood")
    assert all(r.angle and 30 < r.angle < 60 for r in report.results)


def test_completions_that_no_file_can_hold(dataset, predictions):
    path, lines = predictions
    path.write_text(json.dumps({**json.loads(lines[0]), "completion": "<answer>\ud800"}))
    report = score_file(path, dataset)
    assert report.results[0].completion == "<answer>?"
    json.dumps(report.to_json(), ensure_ascii=False).encode()


def test_missing_predictions_count_as_wrong(dataset, predictions):
    path, lines = predictions
    path.write_text("\n".join(lines[:1]) + "\n\n", encoding="utf-8")
    report = score_file(path, dataset, "cross-view/test_ood")
    assert (report.missing, report.overall["tacc"].value) == (3, 0.25)
    assert score_file(path, dataset).overall["tacc"].value == 1
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(metrics_table(report))
    assert "4 items, 3 of them without a prediction" in console.export_text()


@pytest.mark.parametrize(
    ("change", "split", "message"),
    [
        (
            lambda d: {**d, "final": "center"},
            "cross-view/test_ood",
            "is not in cross-view/test_ood",
        ),
        (lambda d: {**d, "sample": "999999"}, None, "sample 999999, center to .*, is not in "),
        (lambda d: {**d, "final": "behind"}, None, "center to behind, is not in "),
        (lambda d: {**d, "initial": "left"}, None, "left to .*, is not in "),
        (lambda d: {**d, "completion": 3}, None, "completion: 3 is not of type 'string'"),
        (lambda d: {"sample": d["sample"]}, None, "'completion' is a required property"),
    ],
)
def test_wrong_predictions_are_named(dataset, predictions, change, split, message):
    path, lines = predictions
    lines[2] = dumps_line(change(json.loads(lines[2])))
    path.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=rf"predictions\.jsonl, line 3: .*{message}"):
        score_file(path, dataset, split)


def test_repeated_predictions_are_named(dataset, predictions):
    path, lines = predictions
    path.write_text("".join(lines + lines[1:2]), encoding="utf-8")
    with pytest.raises(DataError, match="line 5: .* already predicted in line 2; remove one"):
        score_file(path, dataset)


def drawn(lines, *draws):
    """The same lines once for each draw; a draw that is None goes without a number."""
    numbers = ({} if n is None else {"draw": n} for n in draws)
    return [dumps_line({**json.loads(line), **n}) for n in numbers for line in lines]


def test_several_answers_to_an_item(dataset, predictions):
    path, lines = predictions
    silent = lines_of(dataset, "cross-view/test_ood", lambda p: SILENCE)
    # Right in 4, 1, 1 and 0 of 4 draws; the third item has no more than three, the last one two.
    kept = [
        *drawn(lines[:1], None, 1, 2, 3),
        *drawn(lines[1:2], 3),
        *drawn(silent[1:2], 0, 1, 2),
        *drawn(lines[2:3], 0),
        *drawn(silent[2:3], 1, 2),
        *drawn(silent[3:], 0, 1),
    ]
    path.write_text("".join(kept), encoding="utf-8")
    report = score_file(path, dataset, "cross-view/test_ood")
    assert (report.items, len(report.results), report.missing) == (4, 16, 3)
    assert report.overall["tacc"].value == 6 / 16
    assert [r.draw for r in report.results] == [0, 1, 2, 3] * 4
    # Of two draws of four, one that is right by itself is in half the choices.
    expected = {1: (1 + 1 / 4 + 1 / 4) / 4, 2: (1 + 1 / 2 + 1 / 2) / 4, 4: 3 / 4}
    assert {k: e.value for k, e in report.pass_at.items()} == pytest.approx(expected)
    assert all(e.count == 4 and e.low <= e.value <= e.high for e in report.pass_at.values())
    assert report.pass_at[1] == replace(report.overall["tacc"], count=4)
    document = report.to_json()
    assert (document["items"], document["answers"], document["missing"]) == (4, 16, 3)
    assert list(document["pass_at"]) == ["1", "2", "4"]
    assert document["results"][5]["draw"] == 1
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(metrics_table(report))
    text = console.export_text()
    assert "4 items, 16 answers, 3 of them missing" in text and "pass@4" in text


def test_one_answer_is_reported_as_ever(dataset, predictions):
    path, lines = predictions
    report = score_file(path, dataset)
    document = report.to_json()
    assert report.pass_at == {} and not {"answers", "pass_at"} & document.keys()
    assert "draw" not in document["results"][0]
    path.write_text("".join(drawn(lines, 0)), encoding="utf-8")
    assert score_file(path, dataset).to_json() == document


def test_several_answers_are_compared_with_one(dataset, predictions):
    path, lines = predictions
    one = score_file(path, dataset)
    silent = lines_of(dataset, "cross-view/test_ood", lambda p: SILENCE)
    path.write_text("".join([*drawn(lines, 0), *drawn(lines[:1] + silent[1:], 1)]))
    several = score_file(path, dataset)
    comparison = compare(several, one)
    assert comparison.overall["tacc"].value == pytest.approx(5 / 8 - 1)
    assert comparison.wins["", ""] == WinCounts(both=1, first=0, second=3, neither=0)
    assert comparison.only_second == tuple(r.pair for r in one.results[1:])
    assert compare(one, several).overall["tacc"].value == pytest.approx(1 - 5 / 8)
    assert compare(several, several).wins["", ""] == WinCounts(4, 0, 0, 0)


@pytest.mark.parametrize("draw", [-1, 1.5, "0", True])
def test_draws_are_whole_numbers(dataset, predictions, draw):
    path, lines = predictions
    path.write_text("".join(drawn(lines, draw)))
    with pytest.raises(DataError, match=r"line 1: draw: "):
        score_file(path, dataset)


def test_pass_at_k_is_a_share_of_choices():
    for n in range(1, 7):
        for right in range(n + 1):
            answers = [i < right for i in range(n)]
            for k in range(1, n + 1):
                choices = [any(c) for c in combinations(answers, k)]
                assert pass_at_k(n, right, k) == pytest.approx(sum(choices) / len(choices))


def test_files_that_are_none(dataset, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        score_file(tmp_path / "nothing.jsonl", dataset)
    path = tmp_path / "text.jsonl"
    path.write_text("a cube\n")
    with pytest.raises(DataError, match="line 1: is not valid JSON"):
        score_file(path, dataset)


# --- Limits


def write_predictions(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_draws_are_bounded(dataset, tmp_path):
    [pair, *_] = dataset.split("cross-view/test_id")
    lines = [{**pair.to_json(), "completion": "", "draw": 7 * k} for k in range(1001)]
    path = write_predictions(tmp_path / "p.jsonl", lines)
    with pytest.raises(DataError, match="p.jsonl, line 1001: draw 7000 is one more than 1000"):
        score_file(path, dataset)
    report = score_file(write_predictions(path, lines[:1000]), dataset, "cross-view/test_id")
    assert (report.missing, len(report.results)) == (1000, 2000)
    assert len({(r.pair, r.draw) for r in report.results}) == 2000


def test_nothing_to_score_is_an_error(dataset, tmp_path):
    with pytest.raises(DataError, match="p.jsonl: there is nothing to score"):
        score_file(write_predictions(tmp_path / "p.jsonl", []), dataset)


def test_a_split_that_names_no_camera_of_the_sample_is_an_error(dataset, tmp_path):
    copy = Dataset.open(shutil.copytree(dataset.root, tmp_path / "copy"))
    copy.write_split("own/top", [Pair("000000", "center", "top")])
    with pytest.raises(DataError, match="sample 000000: there is no camera top"):
        score_file(write_predictions(tmp_path / "p.jsonl", []), copy, "own/top")

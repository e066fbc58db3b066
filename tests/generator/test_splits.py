"""`tvr split`: no scene in two splits, each split sees what it should and has its share."""

import json
import math
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_tvr.generator.split_schemes import SCHEMES, RatedPair, Scene, SplitOptions, scene_of
from star_tvr.generator.splits import divide, split, stratify
from star_tvr.scenes.errors import ConfigError, ParameterError
from star_tvr.scenes.world import APPEARANCE, ATTRIBUTES
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Pair
from star_tvr.training.answers import compose
from tests.generator.command import limited, linux, refused, tvr

NAMES = ["train", "val", "test_id", "test_ood"]
WORLD = load_config("star").world
COLOR, SHAPE = APPEARANCE.index("color"), APPEARANCE.index("shape")


@pytest.fixture
def writable(star, tmp_path):
    return shutil.copytree(star, tmp_path / "data")


def lines(root, scheme="cross-view"):
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (root / "splits" / scheme).glob("*.jsonl")
    }


def make_scenes(count, views=(0.0, 34.0, 36.0), looks_of=None):
    """Scenes with every number of objects and transformations in turn, and random attributes."""
    rng = np.random.default_rng(count)
    scenes = []
    for i in range(count):
        name, objects = f"{i:06d}", 1 + i % 10
        changes = 1 + (i // 10) % 4
        attributes = rng.choice(APPEARANCE, size=min(changes, objects), replace=False)
        looks = {tuple(rng.choice(WORLD.values(a)) for a in APPEARANCE) for _ in range(objects)}
        angles = views(i) if callable(views) else views
        pairs = tuple(
            RatedPair(Pair(name, "center", f"view{k}" if angle else "center"), angle, 0.5)
            for k, angle in enumerate(angles)
        )
        scenes.append(Scene(name, objects, changes, frozenset(attributes), frozenset(looks), pairs))
    return scenes


def divided(scenes, scheme="cross-view", **options):
    division = divide(scenes, WORLD, SplitOptions(scheme, **options), "data")
    return division, {
        name: {r.pair.sample for r in pairs} for name, pairs in division.splits.items()
    }


def sizes(parts):
    return {name: len(scenes) for name, scenes in parts.items()}


# All schemes


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=15)
@given(count=st.integers(20, 90), seed=st.integers(0, 10**9))
def test_no_scene_is_in_two_splits_and_any_order_gives_the_same(scheme, count, seed):
    scenes = make_scenes(count)
    division, parts = divided(scenes, scheme, seed=seed)
    assert list(parts)[0] == "train"
    assert all(parts.values())
    assert sum(map(len, parts.values())) == len(set().union(*parts.values()))
    assert division.unused == count - sum(map(len, parts.values())) == 0
    assert divided(scenes[::-1], scheme, seed=seed)[0].splits == division.splits


@pytest.mark.parametrize("scheme", SCHEMES)
def test_seeds_differ(scheme):
    scenes = make_scenes(60)
    assert len({repr(divided(scenes, scheme, seed=seed)[0].splits) for seed in range(5)}) == 5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_command_writes_the_same_bytes_and_is_valid(scheme, writable):
    def run(seed):
        done = tvr("split", writable, "--scheme", scheme, "--seed", seed)
        assert done.returncode == 0, done.stderr
        return {p: p.read_bytes() for p in writable.glob("splits/*/*")}

    first = run("5")
    assert run("4") != first
    assert run("5") == first
    found = lines(writable, scheme)
    assert {tuple(line) for split in found.values() for line in split} == {
        ("sample", "initial", "final", "difficulty")
    }
    about = json.loads((writable / "splits" / scheme / "scheme.json").read_text())
    assert about["scheme"] == scheme and about["seed"] == 5
    assert about["pairs"] == {name: len(split) for name, split in found.items()}
    assert tvr("validate", writable).returncode == 0


@pytest.mark.parametrize("scheme", ["cross-view", "objects", "compositional"])
def test_every_split_has_its_share_of_every_label(scheme):
    scenes = {scene.id: scene for scene in make_scenes(1000)}
    _, parts = divided(scenes.values(), scheme)
    pools = [NAMES] if scheme == "cross-view" else [NAMES[:3]]
    for pool in pools:
        whole = [scenes[i] for name in pool for i in parts[name]]
        expected = Counter(label for scene in whole for label in scene.labels)
        for name in pool:
            found = Counter(label for i in parts[name] for label in scenes[i].labels)
            for label, count in expected.items():
                assert abs(found[label] - count * len(parts[name]) / len(whole)) < 5, label


def test_stratified_is_better_than_drawn_at_random():
    scenes = make_scenes(400)
    sized = {"a": 40, "b": 60}

    def distance(part):
        found = Counter(label for scene in part for label in scene.labels)
        whole = Counter(label for scene in scenes for label in scene.labels)
        return sum(abs(found[k] - n * len(part) / len(scenes)) for k, n in whole.items())

    parts = stratify(scenes, sized, 0)
    assert {name: len(part) for name, part in parts.items()} == sized
    drawn = [
        distance([scenes[k] for k in np.random.default_rng(seed).permutation(400)[:40]])
        for seed in range(20)
    ]
    assert distance(parts["a"]) < 0.7 * min(drawn)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_shares_and_numbers(scheme):
    names = list(divided(make_scenes(200), scheme)[1])
    _, parts = divided(
        make_scenes(200), scheme, proportions={"train": 20, "val": 0.05, names[-1]: 7}
    )
    assert (len(parts["train"]), len(parts["val"]), len(parts[names[-1]])) == (20, 10, 7)
    _, parts = divided(make_scenes(200), scheme, proportions={"val": 0, "train": 1})
    assert "val" not in parts and len(parts["train"]) == 1


def test_a_split_left_out_is_deleted(writable):
    assert tvr("split", writable).returncode == 0
    assert set(lines(writable)) == set(NAMES)
    done = tvr("split", writable, "--proportions", "val=0,test_id=2")
    assert done.returncode == 0
    found = lines(writable)
    assert set(found) == {"train", "test_id", "test_ood"}
    assert len({line["sample"] for line in found["test_id"]}) == 2
    assert "test_id.jsonl: 2 pairs of 2 scenes" in done.stdout


@linux
def test_a_full_disk_leaves_the_former_splits(writable):
    assert tvr("split", writable).returncode == 0
    before = lines(writable)
    done = tvr("split", writable, "--proportions", "val=0", preexec_fn=limited(60))
    assert done.returncode == 1
    assert "splits/cross-view: cannot be written (File too large)" in done.stderr
    assert lines(writable) == before
    assert tvr("validate", writable).returncode == 0
    assert not any((writable / "splits" / "cross-view").glob(".*"))


def test_scenes_in_no_split_are_counted(writable):
    done = tvr("split", writable, "--proportions", "train=3")
    assert "2 scenes are in no split" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--scheme", "across"], "'--scheme': 'across' is not one of 'cross-view', 'view-angle'"),
        (["--proportion", "vale=0.1"], "--proportion vale: cross-view has no such split"),
        (["--proportion", "val"], "--proportion val: write name=share"),
        (["--proportion", "val=a"], "--proportion val=a: write"),
        (["--proportion", "val=-1"], "--proportion val=-1"),
        (["--proportion", "val=1.5"], "--proportion val=1.5"),
        (["--proportion", "val=nan"], "--proportion val=nan"),
        (["--proportion", "val=1", "--proportion", "val=2"], "once for each split"),
        (["--proportion", "val=1,val=2"], "once for each split"),
        (["--proportion", "val=9"], "cross-view/val cannot have 9 of 8 scenes"),
        (["--proportion", "val=0.5,test_id=0.5"], "cross-view/test_"),
        (["--proportion", "train=0"], "cross-view/train cannot have 0"),
        (["--angle", "10"], "--angle: is for the scheme view-angle"),
        (["--scheme", "view-angle", "--angle", "a,b"], "--angle a,b: write whole numbers"),
        (["--scheme", "view-angle", "--angle", "45,15"], "--angle 45,15: write rising"),
        (["--scheme", "view-angle", "--angle", "15", "--angle", "180"], "rising"),
        (["--scheme", "view-angle", "--angle", "90"], "0 to 38 degrees. Choose other angles"),
        (["--scheme", "objects", "--paired"], "--paired: is for the scheme cross-view"),
        (["--scheme", "objects", "--max-objects", "10"], "Choose another max_objects"),
        (["--scheme", "objects", "--max-objects", "0"], "max-objects"),
        (["--scheme", "compositional", "--hold-out", "cube"], "--hold-out cube: write pairs"),
        (["--scheme", "compositional", "--hold-out", "cube+pink"], "--hold-out pink: is no color"),
        (["--scheme", "compositional", "--attribute", "shape"], "write two attributes"),
        (["--scheme", "compositional", "--attribute", "shape,shape"], "two different"),
        (["--scheme", "compositional", "--attribute", "shape,position"], "position: is unknown"),
        (
            [
                *("--scheme", "compositional", "--attribute", "shape", "--attribute", "size"),
                *("--hold-out", "cube+small,cube+medium,cube+large"),
            ],
            "training would never see shape cube",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(star, arguments, expected):
    assert expected in refused("split", star, *arguments)
    assert not (star / "splits").exists()


def test_a_folder_that_is_no_data_set(tmp_path):
    assert "not a data set" in refused("split", tmp_path, status=1)


def test_too_few_scenes():
    with pytest.raises(ConfigError, match="train cannot have 1 of 3 scenes.*render more"):
        divided(make_scenes(3))
    with pytest.raises(ConfigError, match="render more"):
        divided([])


def test_an_unknown_scheme():
    with pytest.raises(ParameterError, match="^scheme=across: is unknown; known are cross-view"):
        divided(make_scenes(3), "across")


def test_lists_may_be_repeated_or_have_commas_and_had_other_names(writable):
    def run(*arguments):
        done = tvr("split", writable, "--scheme", "view-angle", *arguments)
        assert done.returncode == 0, done.stderr
        return {p: p.read_bytes() for p in writable.glob("splits/view-angle/*")}

    angles, shares = ("--angle", "15", "--angle", "30"), ("--proportion", "val=1")
    first = run(*angles, *shares, "--proportion", "train=2")
    assert run("--angle=15,30", "--proportion", "val=1, train=2") == first
    assert run("--angles", "15,30", "--proportions=val=1,train=2") == first
    assert run() != first


# cross-view


def test_cross_view(star):
    dataset = Dataset.open(star)
    world = dataset.world
    for seed in range(20):
        division = divide(
            (scene_of(s, world) for s in dataset.samples()), world, SplitOptions(seed=seed), "data"
        )
        assert list(division.splits) == NAMES
        for name, pairs in division.splits.items():
            assert all((r.pair.initial != r.pair.final) == (name == "test_ood") for r in pairs)
        assert {r.pair.final for r in division.splits["test_ood"]} == {"left", "right"}
        counts = [len({r.pair.sample for r in s}) for s in division.splits.values()]
        assert counts == [5, 1, 1, 1]


def test_a_data_set_of_one_view_has_no_cross_view_split(tiny):
    line = refused("split", tiny)
    assert "cross-view" in line and "cameras" in line
    assert not (tiny / "splits").exists()


# view-angle


def test_paired_tests_ask_about_the_same_scenes_from_the_same_and_from_other_cameras():
    division, parts = divided(make_scenes(200), paired=True)
    assert parts["test_id"] == parts["test_ood"] and len(parts["test_id"]) == 60
    assert len(parts["train"] | parts["val"] | parts["test_id"]) == 200
    assert not (parts["train"] | parts["val"]) & parts["test_id"]
    assert all(r.angle == 0 for r in division.splits["test_id"])
    assert all(r.angle > 0 for r in division.splits["test_ood"])
    assert division.unused == 0 and division.to_json()["paired"]


def test_a_view_costs_what_paired_answers_say(star, tmp_path):
    """Right from the same camera and wrong from others: it costs all of TAcc, scene by scene."""
    root = shutil.copytree(star, tmp_path / "data")
    assert tvr("split", root, "--paired").returncode == 0
    dataset = Dataset.open(root)
    predictions = tmp_path / "said.jsonl"
    asked = dataset.split("cross-view/test_id") + dataset.split("cross-view/test_ood")
    said = [
        {
            **pair.to_json(),
            "completion": compose(dataset.sample(pair.sample).plan.transformations)
            if pair.initial == pair.final
            else "",
        }
        for pair in asked
    ]
    predictions.write_text("".join(json.dumps(line) + "\n" for line in said))
    found = json.loads(tvr("score", predictions, root, "--json").stdout)
    assert found["view_cost"]["value"] == 1 and found["view_cost"]["low"] == 1
    assert found["view_cost"]["count"] == len({pair.sample for pair in asked})
    assert "TAcc-ID minus TAcc-OOD" in tvr("score", predictions, root).stdout
    assert tvr("validate", root).returncode == 0


def test_view_angle_trains_on_the_smallest():
    division, parts = divided(make_scenes(100), "view-angle", angles=(15, 35, 90))
    assert sizes(parts) == {
        "train": 60,
        "val": 10,
        "test_000-015": 10,
        "test_015-035": 10,
        "test_035-090": 10,
    }
    ranges = {name: {r.angle for r in pairs} for name, pairs in division.splits.items()}
    assert ranges == {
        "train": {0},
        "val": {0},
        "test_000-015": {0},
        "test_015-035": {34},
        "test_035-090": {36},
    }


def test_rare_angles_come_first_and_scenes_without_small_ones_are_tests():
    """Ten scenes have 100 degrees; twenty have 60 only, so that nobody could train on them."""

    def views(i):
        return (60.0,) if i % 5 == 0 else (0.0, 60.0, 100.0) if i % 10 == 1 else (0.0, 60.0)

    scenes = make_scenes(100, views)
    division, parts = divided(scenes, "view-angle")
    assert {f"{i:06d}" for i in range(0, 100, 5)} == parts["test_045-090"]
    assert len(parts["test_090-135"]) == 10
    assert all(q.angle == 100 for q in division.splits["test_090-135"])
    with pytest.raises(ConfigError, match="view-angle/test_090-135 cannot have 11 of 100 scenes"):
        divided(scenes, "view-angle", proportions={"test_090-135": 11})


def test_opposite_views_are_in_the_last_bin():
    _, parts = divided(make_scenes(30, (0.0, 180.0)), "view-angle")
    assert list(parts) == ["train", "val", "test_000-015", "test_135-180"]


# objects


def test_objects_trains_on_few():
    scenes = {scene.id: scene for scene in make_scenes(100)}
    division, parts = divided(scenes.values(), "objects")
    assert sizes(parts) == {"train": 25, "val": 10, "test_id": 15, "test_ood": 50}
    for name, ids in parts.items():
        assert {scenes[i].objects > 5 for i in ids} == {name == "test_ood"}
    assert division.decided == {"max_objects": 5}
    assert {
        scenes[i].objects for i in divided(scenes.values(), "objects", max_objects=9)[1]["test_ood"]
    } == {10}


# compositional


def combinations(scene):
    return {(a[SHAPE], a[COLOR]) for a in scene.appearances}


@pytest.mark.parametrize("hold_out", [(), (("cube", "red"), ("sphere", "blue"))])
def test_no_held_out_combination_is_in_training(hold_out):
    scenes = {scene.id: scene for scene in make_scenes(300)}
    division, parts = divided(scenes.values(), "compositional", hold_out=hold_out, seed=1)
    held = {tuple(c) for c in division.decided["hold_out"]}
    assert held == set(hold_out) or not hold_out
    for name, ids in parts.items():
        for i in ids:
            assert combinations(scenes[i]).isdisjoint(held) == (name != "test_ood")
    for k, attribute in enumerate(["shape", "color"]):
        seen = {c[k] for i in parts["train"] for c in combinations(scenes[i])}
        assert seen == set(WORLD.values(attribute))


def test_so_few_are_held_out_that_half_can_be_trained_on():
    for seed in range(5):
        division, parts = divided(make_scenes(300), "compositional", seed=seed)
        assert len(parts["test_ood"]) <= 150
        assert 1 <= len(division.decided["hold_out"]) <= 3


def test_other_attributes():
    division, parts = divided(
        make_scenes(300), "compositional", attributes=("material", "size"), hold_out=()
    )
    assert {m for m, _ in division.decided["hold_out"]} <= set(WORLD.values("material"))
    assert parts["test_ood"]


def test_every_state_and_every_object_counts(star):
    """A combination that only comes about by a transformation is seen as well."""
    dataset = Dataset.open(star)
    for sample in dataset.samples():
        looks = scene_of(sample, dataset.world).appearances
        for state in sample.plan.states(dataset.world):
            assert {(o.color, o.shape, o.size, o.material) for o in state} <= looks


# Difficulty


def test_difficulty_by_hand(star):
    dataset = Dataset.open(star)
    for sample in dataset.samples():
        for pair, angle, rated in scene_of(sample, dataset.world).pairs:
            views = [sample.image("initial", pair.initial), sample.image("final", pair.final)]
            changed = {t.object for t in sample.plan.transformations}
            shown = [o.pixels for v in views for o in v.objects if o.index in changed if o.pixels]
            ingredients = [
                (len(sample.plan.initial) - 1) / 9,
                (len(sample.plan.transformations) - 1) / 3,
                np.clip(math.log(3000 / (25 * min(shown))) / math.log(20), 0, 1),
                math.sin(math.radians(angle / 2)),
            ]
            assert rated == pytest.approx(np.mean(ingredients), abs=1e-4)
            assert (angle == 0) == (pair.initial == pair.final)


def test_difficulties_are_read_back_and_can_give_the_order(writable):
    assert tvr("split", writable, "--by-difficulty").returncode == 0
    dataset = Dataset.open(writable)
    values = []
    for name in dataset.split_names():
        rated = dataset.difficulties(name)
        assert list(rated) == dataset.split(name)
        assert list(rated.values()) == sorted(rated.values())
        values += rated.values()
    assert 0 <= min(values) < max(values) <= 1
    dataset.write_split("own/plain", dataset.split("cross-view/train"))
    assert dataset.difficulties("own/plain") == {}
    assert dataset.split("own/plain") == dataset.split("cross-view/train")


def test_from_python(writable):
    dataset = Dataset.open(writable)
    splits = split(dataset, "objects", seed=2, proportions={"val": 1})
    assert {f"objects/{name}" for name in splits} == set(dataset.split_names())
    assert all(dataset.split(f"objects/{name}") == pairs for name, pairs in splits.items())


def test_a_split_that_does_not_exist_names_the_others(writable):
    tvr("split", writable)
    with pytest.raises(Exception, match="test_odd.*cross-view/test_ood"):
        Dataset.open(writable).split("cross-view/test_odd")


def test_all_attributes_are_labels():
    assert set(APPEARANCE) < set(ATTRIBUTES)
    scene = make_scenes(1)[0]
    assert dict(scene.labels)["objects"] == scene.objects

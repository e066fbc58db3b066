"""The dataset card: what it says, and that its command makes the same data set again."""

import hashlib
import json
import shlex
import shutil
from pathlib import Path

import datasets
import pytest
import yaml

from star_tvr.schemas.card import MARK, card, recipe, recipe_file, summarise, write_card
from star_tvr.schemas.config import load_config, preset_names
from star_tvr.schemas.dataset import Dataset
from star_tvr.training.exports.export_dataset import export_dataset
from tests.generator.command import SMALLEST, contents, refused, render, sets, tvr


def front_matter(root):
    start, text, _ = (root / "README.md").read_text().split("---\n", 2)
    assert not start
    return yaml.safe_load(text)


def command(root):
    """The words of the command that the card gives, after `tvr`."""
    lines = (root / "README.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("    tvr render")]
    words = shlex.split(line)
    assert words[:3] == ["tvr", "render", "OUT"]
    return words[3:]


def plans_hash(out):
    plans = b"".join(p.read_bytes() for p in sorted((out / "plans").glob("*.jsonl")))
    return hashlib.sha256(plans).hexdigest()


def test_what_it_says(star):
    text = (star / "README.md").read_text()
    assert front_matter(star)["license"] == "apache-2.0"
    assert front_matter(star)["size_categories"] == ["n<1K"]
    for line in (
        "| preset | star |",
        "| seed | 0 |",
        "| samples | 8 |",
        "| images | 32, 64 x 48 |",
    ):
        assert line in text
    changes = [t for s in Dataset.open(star).samples() for t in s.plan.transformations]
    colors = [t for t in changes if t.attribute == "color"]
    assert f"| color | {len(colors)} | {len(colors) / len(changes):.1%} |" in text
    for name, version in json.loads((star / "dataset.json").read_text())["versions"].items():
        assert f"| {name} | {version} |" in text


def test_the_hub_library_reads_the_front_matter(star):
    from huggingface_hub import DatasetCard

    data = DatasetCard.load(star / "README.md").data
    assert data.pretty_name == "star-tvr star"
    assert data.license == "apache-2.0"


def test_the_command_gives_the_same_plans(star, tmp_path):
    done = tvr("render", tmp_path / "again", *command(star), "--plan-only")
    assert done.returncode == 0, done.stderr
    assert f"`{plans_hash(tmp_path / 'again')}`" in (star / "README.md").read_text()


def test_the_command_of_a_configuration_of_ones_own(tmp_path):
    """Vocabulary added, removed and renamed; the file lies beside the card."""
    (tmp_path / "my world.yaml").write_text(
        "preset: star\n"
        "world:\n"
        "  colors: {red: null, orange: [255, 128, 0]}\n"
        "  shapes: {cone: {kind: prism, sides: 64, top: 0}}\n"
        "objects: {visible: [2, 4], fixed: [{shape: cone, color: orange}]}\n"
    )
    data = tmp_path / "data"
    render(data, "--config", str(tmp_path / "my world.yaml"), "--num-samples", "2", "--seed", "7")
    again = tmp_path / "again"
    done = tvr("render", again, *command(data), cwd=data)
    assert done.returncode == 0, done.stderr
    assert contents(again) == contents(data)
    assert (again / "README.md").read_bytes() == (data / "README.md").read_bytes()
    assert (again / "dataset.json").read_bytes() == (data / "dataset.json").read_bytes()


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_needs_no_changes(name):
    config = load_config(name)
    assert recipe(config) == f"tvr render OUT --config {name} --num-samples 1000 --seed 0"
    assert recipe_file(config) is None


@pytest.mark.parametrize(
    "overrides",
    [
        ["world.colors.red=null", "world.sizes.huge=1.2"],
        ["world.shapes.cone={kind: prism, sides: 64, top: 0}"],
        ["objects.fixed=[{shape: cube, color: blue}]", "objects.visible=[3, 5]"],
        ["cameras.named.top={position: [3.0, 0.0, 11.0]}", "cameras.final=[top, same]"],
        ["cameras.jitter=1.0e-05", "masks=false", "render.denoise=false"],
        ["world.constraints=[{if: {shape: [cube]}, then: {color: [gray, blue]}}]"],
        ["transformations.attributes=[color]", "lights.lamps.fill=null"],
    ],
)
def test_changes_are_carried_in_options(overrides):
    config = load_config("star", overrides)
    words = shlex.split(recipe(config))
    given = [words[k + 1] for k, word in enumerate(words) if word == "--set"]
    assert load_config("star", given) == config


def test_a_card_that_somebody_else_wrote_stays(star, tmp_path):
    root = Path(shutil.copytree(star, tmp_path / "data"))
    written = (root / "README.md").read_text()
    (root / "README.md").write_text("Mine.")
    write_card(Dataset.open(root))
    assert (root / "README.md").read_text() == "Mine."
    (root / "README.md").write_text(f"{MARK}\nold")
    write_card(Dataset.open(root))
    assert (root / "README.md").read_text() == written


def test_a_card_that_stays_the_same_is_not_written_again(copy):
    path = copy / "README.md"
    before = path.stat()
    assert tvr("render", copy).returncode == 0
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    shutil.rmtree(copy / "samples/00000/000007")
    write_card(Dataset.open(copy))
    assert "| samples | 7 of 8 |" in path.read_text()


def test_a_part_of_a_data_set(tmp_path):
    done = tvr(
        *("render", tmp_path / "d", "--config", "basic", "--num-samples", "4", "--shard", "0/2"),
        *sets(*SMALLEST),
    )
    assert done.returncode == 0, done.stderr
    assert "| samples | 2 of 4 |" in (tmp_path / "d" / "README.md").read_text()


def test_a_damaged_sample_is_named(copy):
    path = copy / "samples/00000/000003/sample.json"
    path.write_text(json.dumps({"states": 3}))
    assert "000003/sample.json: is no sample" in refused(
        *("render", copy, *command(copy)), status=1
    )


def test_the_card_of_an_export(star, tmp_path):
    dataset = Dataset.open(star)
    for form, path in (
        ("parquet", "data/default/train-*.parquet"),
        ("webdataset", "default/train-*.tar"),
        ("sharegpt", "default/train.jsonl"),
        ("trance", None),
    ):
        assert list(export_dataset(dataset, tmp_path / form, form))
        configs = front_matter(tmp_path / form).get("configs")
        files = [{"split": "train", "path": path}]
        assert configs == (path and [{"config_name": "default", "data_files": files}])
        assert command(tmp_path / form) == command(star)
        assert (
            f"tvr export OUT EXPORT --format {form}" in (tmp_path / form / "README.md").read_text()
        )
    for form in ("webdataset", "sharegpt"):
        loaded = datasets.load_dataset(
            str(tmp_path / form), split="train", cache_dir=str(tmp_path / "cache")
        )
        assert loaded.num_rows == 24


def test_the_balance_of_nothing_but_one(tiny):
    dataset = Dataset.open(tiny)
    text = card(dataset, summarise(dataset))
    assert "| Transformations in a sample | | |\n|---|---:|---:|\n| 1 | 10 | 100.0% |" in text

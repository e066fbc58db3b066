"""`tvr render`: what is on disk, that it is always the same, and that nothing can spoil it."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import PIL.Image
import pytest
from referencing import Registry, Resource

from star_tvr.generator.blender_process import HOME
from star_tvr.generator.local_executor import render as render_samples
from star_tvr.generator.render import Shard, jobs_to_render
from star_tvr.scenes.errors import ParameterError
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import Dataset
from tests.generator.command import (
    SMALL,
    SMALLEST,
    Running,
    contents,
    documents,
    refused,
    render,
    samples,
    sets,
    tvr,
)

SCHEMAS = Path(__file__).parents[2] / "schemas"
BASIC = ("--config", "basic", "--num-samples")
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


# What is there


def test_the_folder_is_that_of_the_contract(star):
    views = ["initial-center", "final-center", "final-left", "final-right"]
    names = {f"{v}{end}" for v in views for end in (".png", ".mask.png")} | {"sample.json"}
    assert [str(f.relative_to(star)) for f in samples(star)] == [
        f"samples/00000/{i:06d}" for i in range(8)
    ]
    assert all({p.name for p in f.iterdir()} == names for f in samples(star))
    assert {p.name for p in star.iterdir()} - {"README.md"} == {"dataset.json", "samples"}
    assert {p.name for p in (star / "samples").iterdir()} == {"00000"}


def test_a_folder_without_its_document_is_made_again(star, tmp_path):
    root = Path(shutil.copytree(star, tmp_path / "d"))
    before = contents(root)
    (root / "samples/00000/000005/sample.json").unlink()
    assert [job.index for job in jobs_to_render(root, Dataset.open(root).config)] == [5]
    assert "1 samples rendered" in render(root, overrides=())
    assert contents(root) == before


def schema(name):
    documents = {p.name: json.loads(p.read_text()) for p in SCHEMAS.glob("*.schema.json")}
    registry = Registry().with_resources(
        (k, Resource.from_contents(v)) for k, v in documents.items()
    )
    return jsonschema.Draft202012Validator(documents[f"{name}.schema.json"], registry=registry)


def test_documents_fit_their_schemas(star):
    manifest = json.loads((star / "dataset.json").read_text())
    schema("dataset").validate(manifest)
    assert manifest["counts"] == {"samples": 8, "images": 32}
    for document in documents(star):
        schema("sample").validate(document)


def test_samples_say_what_they_are(star):
    for number, document in enumerate(documents(star)):
        assert document["id"] == f"{number:06d}"
        assert document["preset"] == "star"
        assert list(document["cameras"]) and set(document["cameras"]) == {"center", "left", "right"}
        assert document["render"]["samples"] == 1
        assert document["render"]["denoiser"] is None
        assert document["render"]["device"] == "cpu"
        assert document["answer"].count(",") == len(document["transformations"]) - 1
    assert len({d["seed"] for d in documents(star)}) == 8


def pictures(root):
    for folder in samples(root):
        for image in json.loads((folder / "sample.json").read_text())["images"]:
            yield folder, image


def test_masks_agree_with_the_labels(star):
    for folder, image in pictures(star):
        mask = np.asarray(PIL.Image.open(folder / image["mask"]))
        assert mask.shape == (48, 64) and mask.dtype == np.uint8
        seen = {o["index"] + 1 for o in image["objects"] if o["pixels"]}
        assert set(np.unique(mask)) - {0} == seen
        for o in image["objects"]:
            rows, columns = np.nonzero(mask == o["index"] + 1)
            assert o["pixels"] == rows.size
            assert 0 <= o["visibility"] <= 1
            if not rows.size:
                assert o["bbox"] is None
                continue
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert o["bbox"] == box
            if o["visibility"] > 0.9 and rows.size > 12:
                u, v = o["center"]
                assert box[0] <= u <= box[2] and box[1] <= v <= box[3]


def test_images_are_pictures_of_the_scene(star):
    for folder, image in pictures(star):
        picture = PIL.Image.open(folder / image["path"])
        assert (picture.mode, picture.size) == ("RGB", (64, 48))
        assert np.asarray(picture).std() > 5


def test_masks_show_nothing_but_the_changed_objects(star):
    """Seen from the same place, only what changed may look different in the mask."""
    for folder, document in zip(samples(star), documents(star), strict=True):
        changed = {t["object"] + 1 for t in document["transformations"]}
        before, after = (
            np.asarray(PIL.Image.open(folder / f"{state}-center.mask.png"))
            for state in ("initial", "final")
        )
        differ = before != after
        touched = np.isin(before[differ], [*changed]) | np.isin(after[differ], [*changed])
        assert touched.all()


def test_validation_finds_nothing(star):
    done = tvr("validate", star, "--pixels")
    assert (done.returncode, done.stdout) == (0, f"{star}: 8 samples checked, 0 findings\n")


def test_records_round_trip(star):
    dataset = Dataset.open(star)
    for sample, document in zip(dataset.samples(), documents(star), strict=True):
        assert json.loads(json.dumps(sample.to_json(dataset.world))) == document


def test_without_masks(tmp_path):
    render(tmp_path / "d", *BASIC, "2", overrides=(*SMALLEST, "masks=false"))
    names = {"sample.json", "initial-center.png", "final-center.png"}
    assert all({p.name for p in f.iterdir()} == names for f in samples(tmp_path / "d"))
    assert all(i["mask"] is None for _, i in pictures(tmp_path / "d"))
    assert any(o["pixels"] for _, i in pictures(tmp_path / "d") for o in i["objects"])
    assert tvr("validate", tmp_path / "d").returncode == 0


def test_moves_random_views_and_own_shapes(tmp_path):
    config = tmp_path / "own.yaml"
    config.write_text(
        "preset: trance\n"
        "world: {shapes: {cone: {kind: prism, sides: 32, height: 2.0, top: 0.0, bevel: 0.04}},\n"
        "        colors: {orange: [255, 140, 0]}}\n"
        "cameras: {initial: [random], final: [random, same]}\n"
        "transformations: {count: [3, 4]}\n"
    )
    render(tmp_path / "d", "--config", str(config), "--num-samples", "4", overrides=SMALL)
    assert {f"{i['state']}-{i['camera']}" for _, i in pictures(tmp_path / "d")} == {
        "initial-view-0",
        "final-view-0",
        "final-view-1",
    }
    found = documents(tmp_path / "d")
    assert "cone" in {o["shape"] for d in found for o in d["states"]["initial"]["objects"]}
    assert "position" in {t["attribute"] for d in found for t in d["transformations"]}
    done = tvr("validate", tmp_path / "d", "--pixels")
    assert done.returncode == 0, done.stdout


# Always the same


@pytest.mark.parametrize("workers", ["1", "3"])
def test_the_number_of_workers_does_not_matter(star, tmp_path, workers):
    again = tmp_path / "again"
    render(again, "--num-samples", "8", "--workers", workers, overrides=SMALL)
    assert contents(again) == contents(star)


def test_shards_at_the_same_time_make_the_same_data_set(tiny, tmp_path):
    out = tmp_path / "d"
    command = ["render", out, *BASIC, "10", "--workers", "1", *sets(*SMALLEST), "--shard"]
    shards = [Running(*command, f"{k}/2") for k in range(2)]
    assert [s.end()[0] for s in shards] == [0, 0]
    assert contents(out) == contents(tiny)
    assert (out / "dataset.json").read_bytes() == (tiny / "dataset.json").read_bytes()


def test_the_order_does_not_matter(tiny, tmp_path):
    config = load_config("basic", ["num_samples=10", *SMALLEST])
    missing = jobs_to_render(tmp_path / "d", config)
    assert [job.index for job in missing] == list(range(10))
    made = [m.index for m in render_samples(tmp_path / "d", config, missing[::-1], workers=1)]
    assert made == list(range(10))[::-1]
    assert contents(tmp_path / "d") == contents(tiny)


def test_a_prefix_is_the_same_and_can_be_extended(tiny, tmp_path):
    out = tmp_path / "d"
    render(out, *BASIC, "3", "--workers", "1")
    assert contents(out).items() < contents(tiny).items()
    render(out, *BASIC, "10", "--workers", "1")
    assert contents(out) == contents(tiny)
    assert (out / "dataset.json").read_bytes() == (tiny / "dataset.json").read_bytes()


def test_another_seed_is_another_data_set(tiny, tmp_path):
    render(tmp_path / "d", *BASIC, "2", "--seed", "1")
    ours = contents(tmp_path / "d")
    assert not any(contents(tiny)[k] == v for k, v in ours.items())


def test_the_same_command_renders_nothing(tiny, tmp_path):
    out = tmp_path / "d"
    shutil.copytree(tiny, out)
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    printed = render(out, *BASIC, "10")
    assert "0 samples rendered" in printed and "10 there" in printed
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.png")} == times


def test_a_missing_sample_is_made_again(tiny, tmp_path):
    out = tmp_path / "d"
    shutil.copytree(tiny, out)
    shutil.rmtree(out / "samples/00000/000004")
    assert "1 samples rendered" in render(out, *BASIC, "10")
    assert contents(out) == contents(tiny)


# Interruptions

MANY = 16


def start(out, workers="2"):
    return Running(
        "render", out, *BASIC, str(MANY), "--workers", workers, *sets(*SMALLEST, "seed=7")
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "d"
    assert start(out).end()[0] == 0
    return contents(out)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on(tmp_path, undisturbed, kind):
    out = tmp_path / "d"
    run = start(out)
    run.until(lambda: len(samples(out)) >= 2)
    run.signal(kind)
    status, _, errors = run.end()
    assert status != 0
    assert "Traceback" not in errors
    assert 2 <= len(samples(out)) < MANY
    done = contents(out)
    assert done.items() <= undisturbed.items()  # whole samples only, and no others
    assert tvr("validate", out).returncode == 1  # some are missing, which is said
    status, printed, _ = start(out).end()
    assert status == 0
    assert f"{MANY - len(samples_in(done))} samples rendered" in printed
    assert contents(out) == undisturbed
    assert not list(out.glob("samples/*/.*"))
    assert tvr("validate", out).returncode == 0


def samples_in(files):
    return {Path(name).parent for name in files}


def test_an_interruption_by_the_keyboard_says_what_to_do(tmp_path):
    run = start(tmp_path / "d")
    run.until(lambda: samples(tmp_path / "d"))
    run.signal(signal.SIGINT)
    status, _, errors = run.end()
    assert status == 130
    assert "the same command goes on" in errors.splitlines()[-1]


@linux
def test_a_batch_system_that_ends_the_run_is_told_the_same(tmp_path, monkeypatch):
    """Even if it tells nobody but the command itself, whose workers end with it."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    run = start(tmp_path / "d")
    run.until(lambda: samples(tmp_path / "d"))
    workers = [os.pidfd_open(w) for w in run.workers()]
    assert workers and list(temporary.iterdir())
    run.process.terminate()
    status, _, errors = run.end()
    assert status == 143
    assert "the same command goes on" in errors.splitlines()[-1] and "Traceback" not in errors
    for worker in workers:
        ended, _, _ = select.select([worker], [], [], 0)
        os.close(worker)
        assert ended
    assert not list(temporary.iterdir())


@linux
def test_a_worker_that_dies_is_replaced(tmp_path, undisturbed):
    run = start(tmp_path / "d", workers="1")
    run.until(lambda: samples(tmp_path / "d"))
    (worker,) = run.workers()
    os.kill(worker, signal.SIGKILL)
    status, _, errors = run.end()
    assert status == 0, errors
    assert contents(tmp_path / "d") == undisturbed
    assert not list(tmp_path.glob("d/samples/*/.*"))


@linux
def test_workers_end_with_their_parent(tmp_path):
    run = start(tmp_path / "d")
    run.until(lambda: samples(tmp_path / "d"))
    workers = [os.pidfd_open(w) for w in run.workers()]
    run.process.kill()
    run.end()
    for worker in workers:
        ended, _, _ = select.select([worker], [], [], 60)
        os.close(worker)
        assert ended


WITHOUT_PYTHON = """
import os, sys
os.unlink(sys.executable)
from star_tvr.tvr import main
main(sys.argv[1:])
"""


def test_a_worker_that_cannot_be_started_is_an_error(tmp_path):
    """The program that runs it is gone, as after an upgrade of the system's Python."""
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    out = tmp_path / "d"
    done = subprocess.run(
        [python, "-c", WITHOUT_PYTHON, "render", out, *BASIC, "2", *sets(*SMALLEST)],
        cwd=HOME,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {python}: ")
    assert "No such file" in line and "the same command again" in line
    assert not done.stdout and not samples(out)


@linux
def test_a_temporary_folder_that_is_cleared_in_the_middle_is_an_error(tmp_path, monkeypatch):
    """Not a success with fewer samples; nor is it blamed on the folder of the data set."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    run = start(tmp_path / "d", workers="1")
    run.until(lambda: samples(tmp_path / "d"))
    (worker,) = run.workers()
    os.kill(worker, signal.SIGSTOP)
    (folder,) = temporary.iterdir()
    folder.rename(tmp_path / "cleared")
    os.kill(worker, signal.SIGKILL)
    status, printed, errors = run.end()
    assert status == 1
    assert "Traceback" not in errors and "rendered" not in printed
    line = errors.splitlines()[-1]
    assert line.startswith(f"error: {folder}") and "TMPDIR" in line
    assert 0 < len(samples(tmp_path / "d")) < MANY


def test_leftovers_of_a_killed_run_are_invisible_and_removed(tiny, tmp_path):
    out = tmp_path / "d"
    shutil.copytree(tiny, out)
    parent = out / "samples/00000"
    (parent / "000004").rename(parent / ".000004.123")
    assert Dataset.open(out).ids() == [f"{i:06d}" for i in range(10) if i != 4]
    render(out, *BASIC, "10")
    assert not list(parent.glob(".*"))
    assert contents(out) == contents(tiny)


# What cannot be done


def refuse(out, *arguments, status=2):
    return refused("render", out, *arguments, *sets(*SMALLEST), status=status)


def test_another_configuration_in_the_same_folder(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "d")
    before = {p: p.read_bytes() for p in (tmp_path / "d").rglob("*") if p.is_file()}
    line = refuse(tmp_path / "d", *BASIC, "10", "--set", "objects.visible=[2, 3]")
    assert "objects.visible" in line and "[2, 3]" in line
    assert "seed" in refuse(tmp_path / "d", *BASIC, "10", "--seed", "5")
    assert {p: p.read_bytes() for p in (tmp_path / "d").rglob("*") if p.is_file()} == before


def test_a_device_that_is_not_there(tmp_path):
    line = refuse(tmp_path / "d", "--num-samples", "1", "--device", "cuda")
    assert line.startswith("error: --device cuda: ") and "cpu" in line
    assert "not one of 'auto', 'cpu'" in refuse(tmp_path / "e", "--device", "quantum")


def test_a_refused_command_leaves_no_folder(tmp_path):
    for arguments in (["--device", "cuda"], ["--set", "cameras.jiter=1"], ["--shard", "3/2"]):
        refuse(tmp_path / "d", *arguments)
        assert not (tmp_path / "d").exists(), arguments


def test_folders_that_hold_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    line = refused("render", tmp_path)
    assert str(tmp_path) in line and "not empty" in line
    for file in (tmp_path / "notes.txt", "/dev/null"):
        assert f"{file}: is a file" in refused("render", file)
    line = refused("render", tmp_path / "notes.txt" / "d", status=1)
    assert "notes.txt" in line
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("text", ["3/2", "2/2", "-1/2", "1", "a/b", "0/0", "1/2/3", ""])
def test_wrong_shards(tmp_path, text):
    assert f"error: --shard {text}: write I/N" in refuse(tmp_path / "d", f"--shard={text}")


def test_a_part_that_there_is_not():
    with pytest.raises(ParameterError, match="^shard=3/2: the index goes from 0 to the count"):
        Shard(3, 2)


def test_samples_that_cannot_be_planned(tmp_path):
    line = refuse(
        tmp_path / "d",
        *("--num-samples", "2", "--set", "visibility.min_pixels=60000", "--set", "tries=3"),
        status=1,
    )
    assert "sample 00000" in line and "observable 3 times" in line
    assert not samples(tmp_path / "d")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"schema_version": 99}', "NaN"])
def test_a_damaged_manifest(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    line = refuse(tmp_path, status=1)
    assert "dataset.json" in line
    assert (tmp_path / "dataset.json").read_text() == content

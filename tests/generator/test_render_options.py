"""What `tvr render` can be asked for beyond a whole data set, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from star_tvr.generator.blender_process import HOME, BlenderProcess, RenderJob, WorkerOptions
from star_tvr.generator.dataset_writer import write_sample
from star_tvr.generator.errors import RenderError
from star_tvr.generator.local_executor import render as render_samples
from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.schemas.config import QUALITIES, load_config
from star_tvr.schemas.dataset import Dataset
from tests.generator.command import (
    SMALL,
    SMALLEST,
    Running,
    contents,
    documents,
    limited,
    linux,
    refused,
    render,
    samples,
    sets,
    tvr,
)

BASIC = ("--config", "basic", "--num-samples")
TINY = load_config("basic", ["num_samples=3", *SMALLEST])


# Some samples, again, or from their JSON


@pytest.fixture
def out(tiny, tmp_path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "d"))


def test_one_sample_is_rendered_again_and_comes_out_the_same(out, tiny):
    folder = out / "samples/00000/000003"
    (folder / "initial-center.png").write_bytes(b"damaged")
    assert "0 samples rendered" in render(out, "--only", "3", overrides=())
    assert "1 samples rendered" in render(out, "--only", "000003", "--force", overrides=())
    assert contents(out) == contents(tiny)


def test_a_sample_is_made_again_after_its_own_json(out):
    """Not after the sampler: whoever changed the plan on disk sees that plan."""
    path = out / "samples/00000/000005/sample.json"
    document = json.loads(path.read_text())
    target = {t["object"] for t in document["transformations"]}
    other = (
        next(o for o in document["states"]["initial"]["objects"] if o["index"] not in target)
        if len(document["states"]["initial"]["objects"]) > 1
        else None
    )
    changed = other or document["states"]["initial"]["objects"][0]
    for state in document["states"].values():
        state["objects"][changed["index"]]["rotation"] = 0.123
    path.write_text(json.dumps(document))
    render(out, "--only", "5", "--force", overrides=())
    again = json.loads(path.read_text())
    assert again["states"] == document["states"]


def test_the_json_of_a_sample_is_enough(tiny, tmp_path):
    stored = tiny / "samples/00000/000002/sample.json"
    render(tmp_path / "d", *BASIC, "10", "--from", str(stored))
    assert contents(tmp_path / "d") == {
        name: data for name, data in contents(tiny).items() if "/000002/" in name
    }


def test_a_sample_is_rendered_with_the_settings_of_its_data_set(tiny, tmp_path):
    """Size, quality and whatever else shows in its files; nothing is said, for nothing differs."""
    stored = tiny / "samples/00000/000002/sample.json"
    done = tvr("render", tmp_path / "d", "--from", stored)
    assert (done.returncode, "not as it was made" in done.stderr) == (0, False)
    assert contents(tmp_path / "d") == {
        name: data for name, data in contents(tiny).items() if "/000002/" in name
    }
    assert Dataset.open(tmp_path / "d").config == Dataset.open(tiny).config


def test_a_sample_that_lies_alone_is_rendered_as_it_says_itself(tiny, tmp_path):
    alone = Path(shutil.copy(tiny / "samples/00000/000002/sample.json", tmp_path))
    render(tmp_path / "d", "--from", str(alone), overrides=())
    assert contents(tmp_path / "d") == {
        name: data for name, data in contents(tiny).items() if "/000002/" in name
    }
    alone.write_text(alone.read_text().replace('"preset": "basic"', '"preset": "mine"'))
    line = refused("render", tmp_path / "e", "--from", alone)
    assert "--from" in line and "--config" in line and not (tmp_path / "e").exists()


def test_settings_given_beside_a_sample_win_and_are_said(tiny, tmp_path):
    stored = tiny / "samples/00000/000002/sample.json"
    done = tvr("render", tmp_path / "d", "--from", stored, "--set", "image.width=48")
    assert done.returncode == 0
    told = [line for line in done.stderr.splitlines() if "not as it was made" in line]
    assert told == [f"--from {stored}: not as it was made: image.width=48 (was 32)"]
    picture = tmp_path / "d/samples/00000/000002/final-center.png"
    assert PIL.Image.open(picture).size == (48, 24)


def test_plans_made_before_are_rendered(tiny, tmp_path):
    render(tmp_path / "p", *BASIC, "3", "--plan-only")
    plans = tmp_path / "p/plans/00000.jsonl"
    render(tmp_path / "d", *BASIC, "3", "--from", str(plans), "--only", "1", "--only", "2")
    made = contents(tmp_path / "d")
    assert made.items() < contents(tiny).items()
    assert {name.split("/")[2] for name in made} == {"000001", "000002"}


def test_plans_are_shared_between_shards(tiny, tmp_path):
    plan = tmp_path / "plan.jsonl"
    plan.write_text("".join(json.dumps(d) + "\n" for d in documents(tiny)[:2]))
    arguments = (*BASIC, "2", "--from", str(plan), "--shard")
    assert "1 samples rendered" in render(tmp_path / "d", *arguments, "1/2")
    assert [p.name for p in samples(tmp_path / "d")] == ["000001"]


@pytest.mark.parametrize("sample", ["000099", "9" * 12])
def test_a_plan_of_a_sample_that_does_not_belong_to_the_data_set(tiny, tmp_path, sample):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**documents(tiny)[2], "id": sample}))
    line = refused("render", tmp_path / "d", *BASIC, "10", "--from", path)
    assert line.startswith(f"error: {path}: id {sample[:18]}") and "num_samples" in line
    assert "--only" not in line and len(line) < len(str(path)) + 120
    assert not (tmp_path / "d").exists()


def test_a_folder_knows_its_configuration(out):
    shutil.rmtree(out / "samples/00000/000009")
    assert "1 samples rendered" in render(out, overrides=())
    assert Dataset.open(out).config.preset == "basic"


def test_an_older_sample_that_is_damaged_does_not_hide_what_was_rendered(out):
    shutil.rmtree(out / "samples/00000/000009")
    damaged = out / "samples/00000/000003/sample.json"
    damaged.write_text("{")
    done = tvr("render", out)
    assert done.returncode == 1
    assert "1 samples rendered" in done.stdout
    assert f"error: {damaged}" in done.stderr.splitlines()[-1]
    assert (out / "samples/00000/000009/sample.json").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 99}, ["schema_version 99", "upgrade"]),
        ({"states": {"initial": {"objects": []}}}, ["states"]),
        ({"images": [{"state": "initial", "camera": "nowhere"}]}, ["images.0.camera", "nowhere"]),
        ({"images": [{"state": "step-7", "camera": "center"}]}, ["step-7"]),
        (
            {
                "transformations": [
                    {"object": 77, "attribute": "color", "before": "x", "value": "y"}
                ]
            },
            ["transformations", "77"],
        ),
    ],
)
def test_plans_that_cannot_be_drawn(tiny, tmp_path, change, words):
    document = json.loads((tiny / "samples/00000/000002/sample.json").read_text())
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**document, **change}))
    line = refused("render", tmp_path / "d", *BASIC, "10", "--from", path, status=1)
    assert str(path) in line and all(word in line for word in words)
    assert not (tmp_path / "d").exists()


def test_a_plan_with_an_unknown_shape(out):
    path = out / "samples/00000/000002/sample.json"
    path.write_text(path.read_text().replace('"sphere"', '"teapot"').replace('"cube"', '"teapot"'))
    before = contents(out)
    line = refused("render", out, "--only", "2", "--force", status=1)
    assert "teapot" in line and "cylinder" in line and str(path) in line
    assert contents(out) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--num-samples", "10", "--only", "10"], ["000010", "num_samples"]),
        (["--only", "ten"], ["--only ten"]),
        (["--only", "9" * 5000], ["--only 999", "…"]),
        (["--only", "1", "--only", "2,3.5"], ["--only 3.5: write numbers"]),
        (["--only", "1", "--shard", "0/2"], ["--only: does not go with shard"]),
        (["--shard", "0/" + "9" * 5000], ["--shard 0/999", "write I/N"]),
        (["--quality", "best"], ["'best'", "'draft', 'standard', 'trance'"]),
        (["--executor", "slurm"], ["'slurm'", "'local', 'ray'"]),
        (["--address", "auto"], ["--address: goes with the executor ray"]),
        (["--device", "abacus"], ["abacus", "cpu"]),
        (["--device", "abacus", "--plan-only"], ["abacus", "cpu"]),
        (["--num-samples", "-1"], ["num-samples"]),
        (["--workers", "0"], ["workers"]),
        (["--deadline", "0"], ["deadline"]),
        (["--set", "num_samples=-1"], ["num_samples", "-1"]),
        (["--set", "image.width=0"], ["image.width", "0"]),
        (["--set", "image.height=100000"], ["image.height", "100000"]),
        (["--set", "image.width=8192", "--set", "image.height=8193"], ["image.height"]),
        (["--set", "render.samples=0"], ["render.samples"]),
        (["--set", "render.samples=-4"], ["render.samples"]),
        (["--set", "render.max_bounces=-1"], ["render.max_bounces"]),
        (["--set", "render.prefilter=slow"], ["render.prefilter", "slow"]),
        (["--set", "depth=deep"], ["depth"]),
    ],
)
def test_wrong_options(tmp_path, arguments, words):
    done = tvr("render", tmp_path / "d", "--config", "basic", *arguments, timeout=60)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words)
    assert not (tmp_path / "d").exists()


def test_a_folder_that_cannot_be_made():
    line = refused("render", "/proc/nowhere/d", *BASIC, "1", *sets(*SMALLEST), status=1)
    assert "/proc/nowhere/d" in line and "cannot be written" in line


# More files to an image


@pytest.fixture(scope="module")
def extras(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("extras") / "d"
    more = ("depth=true", "normals=true")
    render(out, *BASIC, "1", "--keep-blend", "--workers", "1", overrides=(*SMALL, *more))
    return out


def picture(folder, name):
    with PIL.Image.open(folder / name) as image:
        return np.asarray(image)


def test_depth_and_normals_agree_with_the_labels(extras):
    (document,) = documents(extras)
    (folder,) = samples(extras)
    assert document["images"]
    for image in document["images"]:
        depth = picture(folder, image["depth"]) * image["depth_scale"]
        normals = picture(folder, image["normals"]) / 127.5 - 1
        mask = picture(folder, image["mask"])
        assert depth.shape == mask.shape and normals.shape == (*mask.shape, 3)
        for o in image["objects"]:
            inside = mask == o["index"] + 1
            if inside.sum() > 20:
                assert o["depth"] - 1.3 < np.median(depth[inside]) < o["depth"]
                assert normals[inside, 2].mean() < -0.2  # towards the camera
                assert np.median(np.linalg.norm(normals[inside], axis=-1)) > 0.95


def test_depth_normals_and_blend_files_are_validated(extras, tmp_path):
    data = shutil.copytree(extras, tmp_path / "d")
    assert tvr("validate", data).returncode == 0
    (folder,) = samples(data)
    text = (folder / "sample.json").read_text()
    first, *_ = json.loads(text)["images"]
    (folder / first["normals"]).write_bytes((folder / first["mask"]).read_bytes())
    (folder / first["blend"]).unlink()
    (folder / "sample.json").write_text(text.replace('"depth_scale": 0.001', '"depth_scale": 2'))
    found = tvr("validate", data).stdout
    assert f"{first['normals']}: is P 64 x 48, and should be RGB 64 x 48" in found
    assert f"{first['blend']}: is missing" in found
    assert f", and {first['depth']} times depth_scale says " in found
    (folder / first["depth"]).write_bytes((folder / first["depth"]).read_bytes()[:-30])
    assert f"{first['depth']}: cannot be decoded" in tvr("validate", data).stdout


OPEN = """
import json, sys
from star_tvr.generator import blender
stdout = blender.start()
bpy = blender.load()
bpy.ops.wm.open_mainfile(filepath=sys.argv[1])
scene = bpy.context.scene
shown = [o for o in scene.objects if o.pass_index and not o.hide_render]
print(json.dumps([scene.render.engine, len(shown), list(scene.camera.location)]), file=stdout)
"""


def test_the_blend_file_opens_with_the_scene(extras):
    (document,) = documents(extras)
    (folder,) = samples(extras)
    image = document["images"][-1]
    command = [sys.executable, "-c", OPEN, str(folder / image["blend"])]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    engine, shown, camera = json.loads(done.stdout)
    assert (engine, shown) == ("CYCLES", len(image["objects"]))
    assert camera == pytest.approx(document["cameras"][image["camera"]]["position"], abs=1e-5)


def test_blend_files_of_samples_that_are_there_take_force(tiny, tmp_path):
    out = Path(shutil.copytree(tiny, tmp_path / "d"))
    done = tvr("render", out, "--keep-blend")
    assert done.returncode == 0
    assert "--keep-blend" in done.stderr and "--force" in done.stderr
    assert "--keep-blend" not in tvr("render", out, "--only", "2", "--keep-blend", "--force").stderr
    assert list(out.glob("samples/*/000002/*.blend"))


def test_images_list_their_files(extras):
    dataset = Dataset.open(extras)
    (sample,) = dataset.samples()
    (folder,) = samples(extras)
    named = {name for image in sample.images for name in image.files}
    assert named | {"sample.json"} == {p.name for p in folder.iterdir()}
    assert sample.to_json(dataset.world) == documents(extras)[0]


# Quality


def test_a_quality_stands_for_settings_that_can_be_changed():
    for name, settings in QUALITIES.items():
        block = load_config("star", [f"render.quality={name}"]).render.to_json()
        assert settings.items() <= block.items() and "quality" not in block
    assert QUALITIES["standard"].items() <= load_config("star").render.to_json().items()
    changed = load_config("star", ["render.quality=trance", "render.samples=64"]).render
    assert (changed.samples, changed.denoise) == (64, False)


def test_a_file_may_name_a_quality_and_differ_from_it(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("preset: star\nrender: {quality: draft, samples: 5}\n")
    block = load_config(path).render
    assert (block.samples, block.adaptive) == (5, QUALITIES["draft"]["adaptive"])


# Reproducible


def test_reproducible_is_an_error_where_it_cannot_be(tmp_path, monkeypatch):
    """Processes that are started without the preparation cannot keep the promise."""
    monkeypatch.setattr("star_tvr.generator.blender_process.reproducible_command", list)
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(ConfigError, match="^reproducible: .* addresses"):
        list(
            render_samples(
                tmp_path / "d", TINY, [RenderJob(0)], 1, WorkerOptions(reproducible=True)
            )
        )
    assert not (tmp_path / "d").exists()


def test_without_reproducibility_labels_are_the_same_all_the_same(tiny, tmp_path):
    out = tmp_path / "d"
    render(out, *BASIC, "2", "--no-reproducible", "--workers", "1")
    made, expected = contents(out), contents(tiny)
    for name, data in made.items():
        if name.endswith(".mask.png") or name.endswith(".json"):
            assert data == expected[name], name
        else:
            ours, theirs = (np.asarray(PIL.Image.open(r / name)).astype(int) for r in (out, tiny))
            assert np.mean(abs(ours - theirs) <= 2) >= 0.999


# Workers that hang or grow


@linux
def test_a_worker_that_hangs_is_replaced(tmp_path, tiny):
    out = tmp_path / "d"
    arguments = ["--workers", "1", "--deadline", "4", *sets(*SMALLEST)]
    run = Running("render", out, *BASIC, "10", *arguments)
    run.until(lambda: samples(out))
    (worker,) = run.workers()
    os.kill(worker, signal.SIGSTOP)
    status, _, errors = run.end()
    assert status == 0, errors
    assert contents(out) == contents(tiny)


def test_a_sample_that_always_takes_too_long_is_named(tmp_path):
    config = load_config("basic", ["num_samples=1", "render.samples=65536", "render.denoise=false"])
    process = BlenderProcess(tmp_path / "d", config, WorkerOptions(deadline=0.2))
    words = "sample 000000: Blender needed more than 0.2 s 3 times over it; raise deadline$"
    with pytest.raises(RenderError, match=words):
        process.render(RenderJob(0))
    process.stop()
    assert not samples(tmp_path / "d")


def test_a_worker_that_holds_too_much_memory_is_replaced(tmp_path, tiny):
    process = BlenderProcess(tmp_path / "d", TINY, WorkerOptions(max_memory=1))
    process.start()
    first = process._process.pid
    assert process.render(RenderJob(0)).frames == 2
    assert process._process is None
    assert process.render(RenderJob(1)).frames == 2
    process.close()
    assert first
    assert contents(tmp_path / "d").items() <= contents(tiny).items()


def test_a_process_may_be_dismissed_while_it_is_stopped(tmp_path, monkeypatch):
    """Its own thread puts it away just when another one has ended it and waits for it."""
    process = BlenderProcess(tmp_path / "d", TINY, WorkerOptions())
    process.start()
    child = process._process
    end = child.kill

    def kill():
        process._dismiss()
        end()

    monkeypatch.setattr(child, "kill", kill)
    process.stop()
    assert child.returncode is not None and process._process is None
    process.close()


def test_too_little_memory_for_any_process_is_said_once(tmp_path):
    done = tvr("render", tmp_path / "d", *BASIC, "2", "--max-memory", "1", *sets(*SMALLEST))
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if "--max-memory 1: " in line]
    assert " MiB " in line and "raise it" in line


# A disk that is full


@linux
def test_a_full_disk_drops_the_sample_whole_and_says_what_was_needed(tmp_path):
    out = tmp_path / "d"
    small = sets("image.width=16", "image.height=16", "render.samples=1", "render.denoise=false")
    config = ["--config", "trance", "--num-samples", "1", "--workers", "1", *small]
    done = tvr("render", out, *config, preexec_fn=limited(9_000))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "samples/00000/000000" in line and " MB, " in line and "free" in line
    assert [p.name for p in out.rglob("*") if p.parent != out] == ["00000"]
    render(out, *config, overrides=())  # with room, the same command goes on
    assert len(samples(out)) == 1


@linux
def test_a_full_disk_is_said_of_plans(tmp_path):
    done = tvr("render", tmp_path / "d", "--plan-only", *sets(*SMALLEST), preexec_fn=limited(9_000))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/d/plans/00000.jsonl: cannot be written (File too")


@linux
def test_no_room_for_a_frame_is_said(tmp_path):
    done = tvr(
        *("render", tmp_path / "d", "--num-samples", "1", "--workers", "1", *sets(*SMALL)),
        preexec_fn=limited(60_000),
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "could not write a frame" in line and "TMPDIR" in line and "MB are needed" in line
    assert not samples(tmp_path / "d")


@linux
def test_what_does_not_fit_on_a_small_disk_is_not_there_at_all(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this system does not let us mount a disk")
    try:
        write_sample(disk, "000000", {"a.png": bytes(100_000)})
        with pytest.raises(DataError, match=r"000001: .*2 files need 0.40 MB.*free; make room"):
            write_sample(disk, "000001", {"a.png": bytes(100_000), "b.png": bytes(300_000)})
        assert [p.name for p in (disk / "samples/00000").iterdir()] == ["000000"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Other surroundings in every sample


def test_varied_samples_have_their_lamps_in_the_json_and_can_be_made_again(tmp_path):
    out = tmp_path / "d"
    render(out, "--config", "varied", "--num-samples", "3", "--workers", "1", overrides=SMALLEST)
    before = contents(out)
    lamps = [document["lights"] for document in documents(out)]
    assert len({json.dumps(lamp) for lamp in lamps}) == 3
    assert all(1 <= len(lamp) <= 5 for lamp in lamps)
    render(out, "--only", "1", "--force", overrides=())
    assert contents(out) == before
    assert tvr("validate", out).returncode == 0


def test_samples_that_cannot_be_planned_do_not_stop_the_others(tmp_path):
    """And `tries`, which the message advises to raise, may differ in the next run."""
    rare = ("visibility.min_pixels=240", "objects.visible=[6, 9]")
    arguments = ["render", tmp_path / "d", "--num-samples", "24", *sets(*SMALLEST, *rare)]
    first = tvr(*arguments, *sets("tries=1"))
    there = {p.name for p in samples(tmp_path / "d")}
    assert first.returncode == 1
    assert "no layout in 1 tries" in first.stderr
    assert 0 < len(there) < 24
    again = tvr(*arguments, *sets("tries=2000"))
    assert again.returncode == 0, again.stderr
    assert len(samples(tmp_path / "d")) == 24

"""Commands that write to one folder: which exclude each other, and what they say."""

import os
import shutil
import signal

import pytest

from star_tvr.schemas.folders import LOCK
from star_tvr.schemas.locks import lock_folder
from tests.generator.command import SMALLEST, Running, contents, refused, samples, sets, tvr
from tests.generator.test_import_trance import documents, write_jsonl

BASIC = ("--config", "basic", "--num-samples", "10", "--workers", "1", *sets(*SMALLEST))


@pytest.fixture
def out(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "d")


def test_a_forced_rendering_excludes_others_of_its_samples_and_is_named(tiny, out):
    command = ["render", out, *BASIC, "--force"]
    first = Running(*command)
    first.until(first.workers)
    first.process.send_signal(signal.SIGSTOP)
    line = refused(*command)
    assert f"{out}: in use by tvr render" in line and f"(process {first.process.pid} on " in line
    shutil.rmtree(samples(out)[0])  # what is missing cannot be made beside it, either
    assert "in use by" in refused("render", out, *BASIC)
    first.process.send_signal(signal.SIGCONT)
    assert first.end()[0] == 0
    assert contents(out) == contents(tiny)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in tiny.iterdir())


def test_forced_shards_go_on_together(tiny, out):
    shards = [Running("render", out, *BASIC, "--force", "--shard", f"{k}/2") for k in range(2)]
    assert [s.end()[0] for s in shards] == [0, 0]
    assert contents(out) == contents(tiny) and not (out / LOCK).exists()


def test_the_same_command_twice_makes_one_data_set(tiny, tmp_path):
    out = tmp_path / "d"
    both = [Running("render", out, *BASIC) for _ in range(2)]
    assert [b.end()[0] for b in both] == [0, 0]
    assert contents(out) == contents(tiny)
    assert not list(out.glob("samples/*/.*")) and not (out / LOCK).exists()


def test_another_configuration_begun_at_the_same_time_is_refused(tmp_path):
    out = tmp_path / "d"
    both = [Running("render", out, *BASIC, "--seed", str(seed)) for seed in (1, 2)]
    ends = [b.end() for b in both]
    assert sorted(status for status, _, _ in ends) == [0, 2]
    (problem,) = [errors for status, _, errors in ends if status]
    assert "seed" in problem.splitlines()[-1]
    assert tvr("validate", out).returncode == 0


def test_whoever_comes_second_is_refused(tiny, tmp_path):
    out, source = tmp_path / "d", tmp_path / "src"
    write_jsonl(source, documents())
    ask = ["evaluate", tiny, "--split", "a/b", "--model", "m", "--out", out]
    commands = [["import-trance", source, out], ask]
    with lock_folder(out):
        for command in commands:
            assert f"(process {os.getpid()} on " in refused(*command)
    with lock_folder(tmp_path / ".d.tvr-draft"):
        assert "in use by" in refused("export", tiny, out, "--format", "vlm-r1")
    assert not list(tmp_path.glob(".*")) and not out.exists()


def test_what_a_killed_export_left_is_cleared(tiny, tmp_path):
    draft = tmp_path / ".x.tvr-draft"
    (draft / "images" / "00000").mkdir(parents=True)
    (draft / "images" / "00000" / "half.png").write_bytes(b"half")
    (draft / LOCK).write_text("elsewhere 1 tvr export\n")
    assert tvr("export", tiny, tmp_path / "x", "--format", "vlm-r1").returncode == 0
    assert not draft.exists() and not list((tmp_path / "x").rglob("half.png"))
    assert not (tmp_path / "x" / LOCK).exists()

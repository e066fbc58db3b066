"""Rendering for readers that use samples up: what is there when, and what it shows."""

import signal
from contextlib import contextmanager

import pytest

from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.stream import Need, Stream
from tests.generator.command import (
    SMALLEST,
    Running,
    contents,
    documents,
    refused,
    samples,
    sets,
    tvr,
)

BASIC = ("--config", "basic", "--workers", "1", *sets(*SMALLEST))


@contextmanager
def reading(stream: Stream, keep: bool, used: int, end: int):
    """Be the reader of a stream."""
    with stream.reading(keep):
        stream.say_need("test", Need(session="1", keep=keep, used=used, end=end))
        yield


def names(root):
    return [int(path.name) for path in samples(root)]


def test_a_renderer_stays_ahead_and_its_samples_are_those_of_any_rendering(tiny, tmp_path):
    root = tmp_path / "data"
    stream = Stream(root)
    with reading(stream, keep=False, used=0, end=6):
        serving = Running("render", root, *BASIC, "--ahead", "3")
        serving.until(lambda: len(names(root)) == 3)
        assert names(root) == [0, 1, 2]
        first = contents(root)

        stream.remove_before(2)
        stream.say_need("test", Need(session="1", keep=False, used=2, end=6))
        serving.until(lambda: names(root) == [0, 2, 3, 4])  # trainers look at the first one

        # A reader that starts again from further back finds again what was deleted.
        stream.say_need("test", Need(session="2", keep=False, used=1, end=6))
        serving.until(lambda: names(root) == [0, 1, 2, 3, 4])
        wanted = contents(tiny)
        found = first | contents(root)
        assert found == {name: wanted[name] for name in found}

        # Never beyond the end that was asked for; nobody else may write here meanwhile.
        stream.say_need("test", Need(session="2", keep=False, used=4, end=6))
        serving.until(lambda: names(root) == [0, 1, 2, 3, 4, 5])
        assert "in use by tvr render" in refused("render", root, *BASIC, "--ahead", "3")
        serving.signal(signal.SIGTERM)
        assert serving.end()[0] == 128 + signal.SIGTERM
    state = stream.state()
    assert (state.state, state.words, state.failed) == ("ended", "it was stopped", 0)
    assert Dataset.open(root).config.num_samples == 6


def test_what_cannot_be_planned_gets_its_next_plan_and_is_the_same_again(tmp_path):
    """With a single layout for each sample, some of them fail."""
    crowded = ("objects.total=10", "objects.visible=10", "tries=1", "visibility.min_pixels=250")
    options = (*BASIC, *sets(*crowded))
    root = tmp_path / "data"
    stream = Stream(root)
    with reading(stream, keep=True, used=0, end=8):
        serving = Running("render", root, *options, "--ahead", "8")
        serving.until(lambda: len(names(root)) == 8)
        serving.signal(signal.SIGTERM)
        serving.end()
    draws = {d["id"]: d.get("draw", 0) for d in documents(root)}
    failed = {p.stem: len(stream.failed(int(p.stem))) for p in (root / "stream/failed").iterdir()}
    assert failed and failed == {name: draw for name, draw in draws.items() if draw}
    assert "no layout in 1 tries" in stream.failed(int(next(iter(failed))))[0]

    done = tvr("validate", root)
    assert done.returncode == 0, done.stdout
    before = contents(root)
    assert tvr("render", root, "--force", "--only", next(iter(failed)), "--workers", "1").stdout
    assert contents(root) == before


@pytest.mark.parametrize(
    "options", [["--num-samples", "9"], ["--only", "3"], ["--shard", "0/2"], ["--plan-only"]]
)
def test_options_that_say_which_samples_do_not_go_with_ahead(tmp_path, options):
    line = refused("render", tmp_path / "data", "--ahead", "3", *options)
    assert f"{options[0]}: does not go with --ahead" in line
    assert not (tmp_path / "data").exists()

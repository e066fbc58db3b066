"""`--executor ray` on a real cluster of two nodes, one of which is lost in the middle."""

import os
import signal

import pytest

from star_tvr.generator import ray_executor
from star_tvr.generator.blender_process import BlenderProcess, RenderJob
from star_tvr.generator.errors import RenderError
from star_tvr.schemas.config import load_config
from star_tvr.schemas.dataset import Dataset
from tests.generator.command import SMALLEST, Running, contents, refused, samples, sets, tvr

cluster_utils = pytest.importorskip("ray.cluster_utils")

BASIC = ("--config", "basic", "--num-samples")


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "include_dashboard": False,
            "_system_config": {"health_check_period_ms": 500},  # a lost node is noticed sooner
        },
    )
    yield cluster
    cluster.shutdown()


def test_a_lost_node_changes_nothing(cluster, tmp_path):
    local, out = tmp_path / "local", tmp_path / "ray"
    arguments = (*BASIC, "24", *sets(*SMALLEST, "seed=3"))
    assert tvr("render", local, *arguments).returncode == 0
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    run = Running("render", out, *arguments, "--executor", "ray", "--address", cluster.address)
    run.until(lambda: len(samples(out)) >= 2)
    cluster.remove_node(node, allow_graceful=False)
    status, printed, errors = run.end()
    assert status == 0, errors
    assert "24 samples rendered" in printed
    assert contents(out) == contents(local)
    assert not list(out.glob("samples/*/.*"))


class DyingProcess(BlenderProcess):
    def attempt(self, job):
        if job.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().attempt(job)


class DyingActor(ray_executor.RenderActor):
    """Dies over one sample, as if that took all memory."""

    def __init__(self, config, options):
        super().__init__(config, options)
        self.process = DyingProcess(self.root, config, options)


def test_a_sample_that_kills_its_actors_is_named_once_the_others_are_made(
    cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(ray_executor, "RenderActor", DyingActor)
    config = load_config("basic", ["num_samples=4", *SMALLEST])
    made = []
    with pytest.raises(RenderError, match="^sample 000001: Ray actors died 3 times over it$"):
        for sample in ray_executor.render(
            tmp_path / "d", config, [RenderJob(k) for k in range(4)], address=cluster.address
        ):
            made.append(sample.index)
    assert sorted(made) == [0, 2, 3]
    assert Dataset.open(tmp_path / "d").ids() == ["000000", "000002", "000003"]


def test_what_the_cluster_cannot_give(cluster, tmp_path):
    ray = ("--executor", "ray", "--address")
    small = (*BASIC, "1", *sets(*SMALLEST))
    line = refused(
        "render", tmp_path / "d", *small, *ray, cluster.address, "--set", "render.threads=64"
    )
    assert "64 CPUs" in line
    line = refused("render", tmp_path / "d", *small, *ray, "127.0.0.1:1")
    assert "--address 127.0.0.1:1" in line
    assert not (tmp_path / "d").exists()


def test_errors_of_actors_are_those_of_workers(cluster, tmp_path):
    line = refused(
        *("render", tmp_path / "d", *BASIC, "2", *sets(*SMALLEST)),
        *("--executor", "ray", "--address", cluster.address),
        *("--set", "visibility.min_pixels=60000", "--set", "tries=3"),
        status=1,
    )
    assert "sample 00000" in line and "observable" in line


def test_a_cluster_that_cannot_be_started_says_why(tmp_path, monkeypatch):
    """For instance because Ray's sockets would have longer names than the system allows."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 30)))
    line = refused("render", tmp_path / "d", *BASIC, "1", *sets(*SMALLEST), "--executor", "ray")
    assert "--address local: no Ray cluster" in line and "length" in line
    assert not (tmp_path / "d").exists()


def test_a_batch_system_that_ends_the_run_is_told_how_to_go_on(cluster, tmp_path):
    """Ray, which has its own ways to end, does not get between."""
    out = tmp_path / "d"
    arguments = (*BASIC, "24", *sets(*SMALLEST), "--executor", "ray")
    run = Running("render", out, *arguments, "--address", cluster.address)
    run.until(lambda: samples(out))
    run.process.send_signal(signal.SIGTERM)
    status, _, errors = run.end()
    assert status == 143, errors
    assert "the same command goes on" in errors.splitlines()[-1] and "Traceback" not in errors

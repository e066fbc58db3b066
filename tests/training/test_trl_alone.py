"""A plain script with TRL's own trainer learns the same, step by step."""

from tests.benchmarks.bench_trl import KEYS, ours, plain, warm_model


def test_a_plain_script_logs_the_same_figures(dataset, tmp_path):
    model = warm_model(dataset, tmp_path)
    logs = [run(model, dataset, "cross-view/train", tmp_path, steps=2) for run in (plain, ours)]
    figures = [[[line[key] for key in KEYS] for line in log] for log in logs]
    assert figures[0] == figures[1]
    assert any(line["loss"] for line in logs[0]) and any(line["grad_norm"] for line in logs[0])

"""What `tvr doctor` says of a machine, whole and broken."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from star_tvr.generator import doctor


def shown(report: doctor.SystemReport) -> str:
    console = Console(file=io.StringIO(), width=200)
    doctor.show(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_this_machine_can_render_and_train() -> None:
    report = doctor.check_system()
    assert report.ok, shown(report)
    assert report.rendering.blender.startswith("4.5.")
    assert report.rendering.devices["cpu"] and report.rendering.denoiser
    assert not report.rendering.missing
    assert report.training.versions["torch"] and report.training.devices["cpu"]
    assert json.loads(json.dumps(report.to_json()))["ok"] is True
    assert "can render" in shown(report) and "can train" in shown(report)


def test_a_broken_library_is_a_line_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bpy.py").write_text("import os; os.abort()")
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13:\\n no such file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    report = doctor.check_system()
    assert not report.ok
    assert report.rendering.problem == "loading crashed: SIGABRT"
    assert report.training.problem == "torch cannot be imported: libcudart.so.13: no such file"
    assert "cannot render: loading crashed" in shown(report)
    assert "cannot train: torch cannot" in shown(report)


def test_a_missing_system_library_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "libXi.so.6: cannot open shared object file: No such file or directory"
    (tmp_path / "bpy.py").write_text(f"raise ImportError({message!r})")
    (tmp_path / "torch.py").write_text("raise ValueError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    report = doctor.check_system()
    assert "libXi.so.6" in report.rendering.problem
    assert "apt-get install libxi6" in report.rendering.problem


def test_asking_loads_neither_blender_nor_torch() -> None:
    code = """
import sys
from star_tvr.generator import doctor
doctor.check_system()
assert not {"bpy", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

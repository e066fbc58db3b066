"""What `pip install star-tvr` gives: alone, with an extra, and among a user's own packages."""

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_tvr.extras import EXTRAS
from star_tvr.scenes.transformations import answer_text
from star_tvr.schemas.dataset import Dataset
from tests.environments import CLEAN, ROOT, build, environment, newer_python, run
from tests.generator.command import SMALLEST, render, sets
from tests.training.discs import make_dataset

MINE = ("examples", "generator", "scenes", "schemas", "training")
"""A user's packages that are called as our folders are."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, and the wheel that is made of it."""
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    """The wheel of the source distribution."""
    return next(built.glob("*.whl"))


@pytest.fixture(scope="session")
def core(wheel: Path) -> Path:
    """The commands of an environment without extras, of a Python that Blender is not made for."""
    return environment(wheel, python=newer_python() or sys.executable)


@pytest.fixture(scope="session")
def rendering(wheel: Path) -> Path:
    """The commands of an environment that can only render."""
    return environment(wheel, "render")


@pytest.fixture(scope="session")
def wheel_here(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with the wheel and the packages of the one of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "virtualenv", "-q", folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    shared = [p for p in sys.path if p.endswith("site-packages")]
    (packages / "shared.pth").write_text("\n".join(shared))
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", "-I", wheel)
    return folder / "bin"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a user's own packages, which nobody but the user may find."""
    for name in MINE:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"WHOSE = 'the user'\nNAME = {name!r}\n")
    return tmp_path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rendered samples with a split."""
    root = tmp_path_factory.mktemp("data") / "star"
    render(root, "--num-samples", "6")
    return root


def call(home: Path, *command: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in a user's folder; it must end with this status."""
    done = subprocess.run(
        [str(c) for c in command],
        cwd=home,
        env=CLEAN,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, (done.stdout[-2000:], done.stderr[-2000:])
    return done


# --- What is built -----------------------------------------------------------------------------


def tracked(folder: str) -> set[str]:
    """The files of a folder, as git knows them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.splitlines() if (ROOT / name).is_file()}


def test_wheel_and_source_hold_the_package_and_nothing_else(built: Path, tmp_path: Path) -> None:
    own = tracked("star_tvr")
    for link in (ROOT / "star_tvr").iterdir():
        if link.is_symlink() and link.is_dir():
            own |= {f"star_tvr/{name}" for name in tracked(link.name)}
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        members = [m for m in archive.getmembers() if not m.isdir()]
        assert all(m.isfile() for m in members)  # no links
        names = {m.name.partition("/")[2] for m in members}
    about = {"LICENSE", "MANIFEST.in", "NOTICE", "PKG-INFO", "README.md", "pyproject.toml"}
    assert {n for n in names if ".egg-info/" not in n} == own | about | {"setup.cfg"}

    (direct,) = build(tmp_path, "--wheel").glob("*.whl")
    contents = []
    for path in (direct, *built.glob("*.whl")):
        with zipfile.ZipFile(path) as archive:
            contents.append({n: archive.read(n) for n in archive.namelist()})
    assert contents[0] == contents[1]
    assert {n for n in contents[0] if ".dist-info/" not in n} == own
    assert contents[0]["star_tvr/training/rewards.py"] == (
        (ROOT / "training" / "rewards.py").read_bytes()
    )


# --- The core alone ----------------------------------------------------------------------------

IMPORT_ALL = """
import importlib, json, pkgutil, star_tvr
missing = {}
for module in pkgutil.walk_packages(star_tvr.__path__, "star_tvr."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as problem:
        missing[module.name.removeprefix("star_tvr.")] = problem.name.partition(".")[0]
print(json.dumps(missing))
"""


def test_modules_import_without_extras_or_lack_one(core: Path, home: Path) -> None:
    missing = json.loads(call(home, core / "python", "-c", IMPORT_ALL).stdout)
    for module in [name for name in missing if name.startswith("training.integrations.")]:
        assert missing.pop(module) in {*EXTRAS, module.rpartition(".")[2]}  # what it is for
    assert set(missing.values()) <= EXTRAS.keys()
    assert {module.partition(".")[0] for module in missing} <= {"generator", "training"}
    light = ("answers", "rewards", "metrics", "prompts", "rows", "questions", "baselines")
    assert not {f"training.{name}" for name in light} & missing.keys()


def test_the_core_is_light(core: Path, home: Path) -> None:
    listed = json.loads(call(home, core / "python", "-m", "pip", "list", "--format=json").stdout)
    names = {package["name"].lower() for package in listed}
    assert "star-tvr" in names
    assert not {name.lower() for name in EXTRAS} & names


@pytest.mark.parametrize("module", ["answers", "rewards", "assignment", "prompts"])
def test_the_examples_of_the_documentation_run(core: Path, home: Path, module: str) -> None:
    code = f"import doctest, star_tvr.training.{module} as m; print(doctest.testmod(m))"
    done = call(home, core / "python", "-c", code)
    assert "failed=0" in done.stdout and "attempted=0" not in done.stdout


DOCUMENTED = """
import sys, star_tvr, training
assert not {"numpy", "scipy", "torch"} & set(sys.modules)
from star_tvr import load_config, load_dataset, score
assert score("<think></think><answer>2.color.cyan</answer>", "2.color.cyan").total == 6
assert training.WHOSE == "the user" and not hasattr(training, "rewards")
assert load_config("star") and load_dataset
assert not {"torch", "bpy", "matplotlib"} & set(sys.modules)
"""


def test_the_documented_import_among_a_user_s_packages(
    core: Path, wheel_here: Path, home: Path
) -> None:
    for python in (core / "python", wheel_here / "python", sys.executable):
        call(home, python, "-c", DOCUMENTED)


def test_commands_of_the_core(core: Path, home: Path, data: Path) -> None:
    tvr = core / "tvr"
    call(home, tvr, "render", "plans", "--num-samples", "3", "--plan-only")
    assert (home / "plans" / "plans").is_dir()
    assert "0 findings" in call(home, tvr, "validate", data, "--pixels").stdout
    copy = home / "copy"
    run("cp", "-r", data, copy)
    assert "cross-view/train" in call(home, tvr, "split", copy).stdout
    dataset = Dataset.open(copy)
    pairs = dataset.split("cross-view/test_id")
    with (home / "said.jsonl").open("w") as file:
        for pair in pairs:
            truth = answer_text(dataset.sample(pair.sample).plan.transformations)
            line = {**pair.to_json(), "completion": f"<think></think><answer>{truth}</answer>"}
            file.write(json.dumps(line) + "\n")
    asked = ("score", "said.jsonl", copy, "--split", "cross-view/test_id", "--json")
    metrics = json.loads(call(home, tvr, *asked).stdout)
    assert metrics["metrics"]["tacc"]["value"] == 1
    assert "trivial answers" in call(home, tvr, "stats", copy).stdout.lower()
    call(home, tvr, "export", copy, "out", "--format", "sharegpt")


RENDER, TRAIN = "bpy, OpenEXR", "torch, trl, peft"
LACKING = {
    "render DIR": ("tvr render", RENDER, "render"),
    "render DIR --executor ray": ("tvr render", f"{RENDER}, ray", "render,ray"),
    "stats DATA --out DIR": ("tvr stats --out", "matplotlib", "report"),
    "view DATA --out DIR": ("tvr view", "matplotlib", "report"),
    "export DATA DIR --format parquet": ("tvr export --format parquet", "datasets", "train"),
    "export DATA DIR --format trance": ("tvr export", "h5py", "render"),
    "import-trance data.h5 DIR": ("tvr import-trance", "h5py", "render"),
    "train sft none.yaml": ("tvr train", TRAIN, "train"),
    "train grpo none.yaml": ("tvr train", TRAIN, "train"),
    "evaluate DATA --split a/b --model m --out DIR": (
        *("tvr evaluate", "torch, transformers", "train"),
    ),
    "evaluate DATA --split a/b --model m --out DIR --endpoint http://localhost:1/v1": (
        *("tvr evaluate --endpoint", "openai, httpx2", "ask"),
    ),
    "report DATA": ("tvr report", "matplotlib, pyarrow", "report"),
    "demo DIR": ("tvr demo", f"{RENDER}, {TRAIN}, matplotlib", "render,train,report"),
}
"""Commands, and for each what it is called, what it lacks and where that is."""


def lacking(words: str) -> str:
    """How the line begins that says what a command lacks."""
    what, packages, extras = LACKING[words]
    are = "are" if "," in packages else "is"
    return f"{what} needs {packages}, which {are} not installed: pip install 'star-tvr[{extras}]'"


@pytest.mark.parametrize("words", LACKING)
def test_a_missing_extra_is_one_line_before_work_begins(
    core: Path, home: Path, data: Path, words: str
) -> None:
    (home / "data.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    before = sorted(home.iterdir())
    arguments = [str(data) if w == "DATA" else "new" if w == "DIR" else w for w in words.split()]
    done = call(home, core / "tvr", *arguments, status=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {lacking(words)}")
    assert sorted(home.iterdir()) == before and not done.stdout


def test_a_module_that_launchers_start_names_the_extra(core: Path, home: Path) -> None:
    command = (core / "python", "-m", "star_tvr.training.grpo", "none.yaml")
    (line,) = call(home, *command, status=2).stderr.splitlines()
    assert line.endswith("pip install 'star-tvr[train]'")


def test_doctor_names_the_extras(core: Path, home: Path) -> None:
    said = " ".join(call(home, core / "tvr", "doctor", status=1).stdout.split())
    assert "'star-tvr[render]'" in said and "'star-tvr[train]'" in said


# --- With extras -------------------------------------------------------------------------------


def test_rendering_needs_its_extra_alone(rendering: Path, home: Path) -> None:
    tvr = rendering / "tvr"
    call(home, tvr, "render", "data/mine", "--num-samples", "2", *sets(*SMALLEST))
    assert "2 samples checked, 0 findings" in call(home, tvr, "validate", "data/mine").stdout
    done = call(home, tvr, "train", "grpo", "x.yaml", status=2)
    assert done.stderr == f"error: {lacking('train grpo none.yaml')}\n"


# --- Among a user's packages -------------------------------------------------------------------


def write_training(home: Path, name: str) -> str:
    """The name of a file that asks for a short training of the tiny model into folder `name`."""
    if not (home / "data").is_dir():
        make_dataset(home / "data")
    values: dict[str, Any] = {
        **{"model": "tiny", "dataset": "data", "split": "cross-view/train", "output_dir": name},
        **{"prompt": {"style": "compact", "location": "cell"}, "use_cpu": True},
        **{"report_to": "none", "max_steps": 1, "per_device_train_batch_size": 2},
        **{"num_generations": 2, "max_completion_length": 8},
    }
    (home / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return f"{name}.yaml"


def test_training_among_a_user_s_packages(wheel_here: Path, home: Path) -> None:
    call(home, wheel_here / "tvr", "train", "grpo", write_training(home, "run"))
    assert (home / "run" / "run.json").is_file()
    launch = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1")
    for python, name in ((wheel_here / "python", "one"), (Path(sys.executable), "two")):
        call(home, python, *launch, "-m", "star_tvr.training.grpo", write_training(home, name))
        assert json.loads((home / name / "run.json").read_text())["status"] == "done"


def test_an_editable_install_renders_among_a_user_s_packages(home: Path) -> None:
    tvr = Path(sys.executable).with_name("tvr")
    call(home, tvr, "render", "mine", "--num-samples", "1", *sets(*SMALLEST))
    assert (home / "mine" / "samples" / "00000" / "000000" / "sample.json").is_file()


def test_the_repository_s_own_imports_work_in_its_folder() -> None:
    code = "from training.rewards import score; import scenes, schemas, generator, tvr"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=CLEAN, check=True)

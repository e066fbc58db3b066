"""Modules of the user's own: rewards, and classes of models that transformers does not know.

Only names that stand in the configuration or on the command line of the user come here, never those
of a configuration that lies beside a model.
"""

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from star_tvr.scenes.errors import ConfigError, DataError
from star_tvr.schemas.files import read_bytes

LONGEST_CODE = 10_000_000
"""Bytes of a file of Python."""


@dataclass(frozen=True)
class UserModule:
    """A module of the user's own, loaded.

    Attributes:
        module: the module.
        sha256: of its file, in hexadecimal; of a package, of its `__init__.py`; empty if there is
            no file.
    """

    module: ModuleType
    sha256: str


def load_module(key: str, name: str) -> UserModule:
    """Run a file or import a module, once in a process as long as the file stays the same.

    Args:
        key: of the configuration, or option, that names it; for errors.
        name: `path/to/file.py`, relative to the working directory, or the name of a module that is
            installed or lies in the working directory. Modules beside it can be imported by it.

    Raises:
        ConfigError: there is no such file or module, or it fails.
    """
    if name.endswith(".py"):
        return _run_file(key, name)
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{key}: {name!r} is neither a file (….py) nor the name of a module")
    with _explained(key, name), _importable(Path.cwd()):
        module = importlib.import_module(name)
    file = getattr(module, "__file__", None)
    return UserModule(module, "" if file is None else _sha256(Path(file).read_bytes()))


def load_function(key: str, name: str) -> Callable[..., Any]:
    """The function that `file.py:function` or `module:function` names.

    Raises:
        ConfigError: as `load_module`, or the module has nothing of that name that can be called.
    """
    source, _, attribute = name.rpartition(":")
    module = load_module(key, source).module
    if not hasattr(module, attribute):
        raise ConfigError(f"{key}: {source} has no {attribute}; name a function that is in it")
    function = getattr(module, attribute)
    if not callable(function):
        kind = type(function).__name__
        raise ConfigError(f"{key}: {attribute} in {source} is a {kind}; name a function")
    return function


def describe_failure(problem: BaseException, name: str) -> str:
    """What went wrong in the user's code, and in which line of which file, in one line.

    Args:
        name: of the file or module, where the error itself does not tell the place.
    """
    place = name
    if isinstance(problem, SyntaxError):
        place, text = f"{problem.filename} line {problem.lineno}", problem.msg
    else:
        frames = traceback.extract_tb(problem.__traceback__)
        own = [f for f in frames if _is_file_of(name, Path(f.filename))]
        if own:
            place = f"{own[-1].filename} line {own[-1].lineno}"
        text = " ".join(str(problem).split())
    text = text if len(text) < 300 else f"{text[:300]} …"
    return f"{place}: {type(problem).__name__}{f': {text}' if text else ''}"


def _is_file_of(name: str, path: Path) -> bool:
    """Whether a path is the file that is named, or looks like that of the module."""
    if name.endswith(".py"):
        return path == Path(name).absolute()
    parts = tuple(name.split("."))
    return path.with_suffix("").parts[-len(parts) :] == parts


def _run_file(key: str, name: str) -> UserModule:
    path = Path(name).absolute()
    try:
        content = read_bytes(Path(name), LONGEST_CODE)
    except DataError as problem:
        raise ConfigError(f"{key}: {problem}; paths are relative to {Path.cwd()}") from None
    digest = _sha256(content)
    # Files of one name are different modules, and none takes the place of an installed one.
    module_name = f"{path.stem}_{_sha256(bytes(path) + content)[:12]}"
    if module_name not in sys.modules:
        module = ModuleType(module_name)
        module.__file__ = str(path)
        sys.modules[module_name] = module  # dataclasses and transformers look for it there
        try:
            # The bytes of the digest are those that run, and nothing is written beside the file.
            with _explained(key, name), _importable(path.parent):
                exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
        except BaseException:
            del sys.modules[module_name]
            raise
    return UserModule(sys.modules[module_name], digest)


@contextmanager
def _explained(key: str, name: str) -> Iterator[None]:
    """Around code of the user's: any failure of it is a ConfigError."""
    try:
        yield
    except ModuleNotFoundError as problem:
        if problem.name is not None and f"{name}.".startswith(f"{problem.name}."):
            raise ConfigError(
                f"{key}: there is no module {problem.name}; install it, or name its file, such as "
                f"{name.replace('.', '/')}.py"
            ) from None
        raise ConfigError(f"{key}: {describe_failure(problem, name)}; install that") from problem
    except (Exception, SystemExit) as problem:
        raise ConfigError(f"{key}: {describe_failure(problem, name)}; mend it") from problem


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules in a folder be imported for now, after all others."""
    entry = str(folder)
    sys.path.append(entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        # The last one: the same folder may have been there before.
        del sys.path[len(sys.path) - 1 - sys.path[::-1].index(entry)]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""Runs a script or a module as ``python`` itself would: as ``__main__``, with its own arguments, path and traceback."""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import signal
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["Program", "find_module", "find_script"]

_INTERRUPTED = 128 + signal.SIGINT


class Program:
    """What is to run.

    Parameters
    ----------
    code
        What it does.
    file
        What ``__file__`` and ``sys.argv[0]`` are.
    folder
        What ``sys.path`` begins with.
    spec
        What ``__spec__`` is: ``None`` for a script.
    """

    def __init__(self, code: CodeType, file: str, folder: str, spec: ModuleSpec | None = None) -> None:
        self._code = code
        self._file = file
        self._folder = folder
        self._spec = spec

    def run(self, arguments: Sequence[str]) -> int:
        """Run it in this process, which is its own from then on; return the exit code."""
        main = ModuleType("__main__")
        main.__file__ = self._file
        main.__spec__ = self._spec
        main.__package__ = None if self._spec is None else self._spec.parent
        main.__loader__ = SourceFileLoader("__main__", self._file) if self._spec is None else self._spec.loader
        main.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = main
        sys.argv = [self._file, *arguments]
        if sys.path and not getattr(sys.flags, "safe_path", False):
            sys.path[0] = self._folder
        try:
            exec(self._code, main.__dict__)
        except SystemExit as stop:
            from scalepool._proc.child import exit_code

            return exit_code(stop.code)
        except BaseException as error:  # noqa: BLE001 - as the interpreter does with what nobody caught
            error.__traceback__ = _without_us(error.__traceback__)
            sys.excepthook(type(error), error, error.__traceback__)
            return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
        return 0


def find_script(path: str) -> Program:
    """Read a script, or the ``__main__`` of a folder or zip file.

    Raises
    ------
    OSError
        When it cannot be read.
    SyntaxError, ValueError
        When it is no Python.
    ImportError
        When a folder or zip file has no ``__main__``.
    """
    finder: Any = PathFinder
    spec = finder.find_spec("__main__", [path]) if not os.path.isfile(path) or _is_archive(path) else None  # noqa: PTH113
    if spec is not None and spec.loader is not None and spec.origin is not None:
        return Program(spec.loader.get_code("__main__"), spec.origin, path, spec)
    if os.path.isdir(path):  # noqa: PTH112
        raise ImportError(f"can't find '__main__' module in {path!r}")
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    return Program(code, path, os.path.dirname(os.path.realpath(path)))  # noqa: PTH120


def find_module(name: str) -> Program:
    """Find a module, or the ``__main__`` of a package, as ``python -m`` does.

    Raises
    ------
    ImportError
        When there is none, or its code cannot be had.
    """
    sys.path[0:1] = [os.getcwd()]  # noqa: PTH109 - where it is looked for, and where it runs
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    loader: Any = None if spec is None else spec.loader
    code = loader.get_code(spec.name) if spec is not None and hasattr(loader, "get_code") else None
    if spec is None or code is None:
        raise ImportError(f"No module named {name}, or none that can be run")
    return Program(code, spec.origin or name, sys.path[0], spec)


def _is_archive(path: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(path)


def _without_us(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") == __name__:
        traceback = traceback.tb_next
    return traceback

"""Run another project's test source with its imports changed; nothing of it is copied here.

A *retargeted* module executes the source of an installed test module in its own namespace, with an ``__import__`` that
answers ``import multiprocessing`` (and friends) with a `Stand-in <StandIn>`: the drop-in module first, the original
for every name that the drop-in does not have. Imports inside functions go the same way, because a function takes its
builtins from the namespace that it was defined in.

``SCALEPOOL_COMPAT_TARGET=stdlib`` leaves the imports as they are: the suites then test the originals, which checks this
harness itself.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skips import change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TARGET = os.environ.get("SCALEPOOL_COMPAT_TARGET", "scalepool")
if TARGET not in ("scalepool", "stdlib"):
    raise ValueError(f"SCALEPOOL_COMPAT_TARGET={TARGET!r} is neither 'scalepool' nor 'stdlib'")

#: Original package -> drop-in package. Every module below has its counterpart below.
REPLACED = {"multiprocessing": "scalepool.multiprocessing", "concurrent": "scalepool.concurrent"}


class StandIn(types.ModuleType):
    """Looks like the module `name`; attributes come from the drop-in where it has them, else from the original."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__dict__["_original"] = importlib.import_module(name)
        self.__dict__["_drop_in"] = _drop_in(name)

    def __getattr__(self, attribute: str) -> Any:
        name = f"{self.__name__}.{attribute}"
        for source in (self._drop_in, self._original):
            found = getattr(source, attribute, None)
            if found is None and source is self._drop_in:
                continue  # not there, or a name that the drop-in leaves out on purpose
            if isinstance(found, types.ModuleType) and found.__name__ in (name, _counterpart(name)):
                return stand_in(name)
            return found if found is not None else getattr(self._original, attribute)
        raise AttributeError(attribute)  # pragma: no cover - the loop always returns


_STAND_INS: dict[str, StandIn] = {}


def stand_in(name: str) -> StandIn:
    """Return the one stand-in of a module, importing what it needs."""
    if name not in _STAND_INS:
        _STAND_INS[name] = StandIn(name)
    return _STAND_INS[name]


def _counterpart(name: str) -> str:
    top, dot, rest = name.partition(".")
    return REPLACED[top] + dot + rest


def _drop_in(name: str) -> types.ModuleType | None:
    counterpart = _counterpart(name)
    try:
        return importlib.import_module(counterpart)
    except ModuleNotFoundError as error:
        if error.name is None or not counterpart.startswith(error.name):
            raise  # the drop-in is there and itself misses something
        return None


def _import(
    name: str,
    globals: dict[str, Any] | None = None,  # noqa: A002 - the signature of __import__
    locals: dict[str, Any] | None = None,  # noqa: A002
    fromlist: Iterable[str] | None = (),
    level: int = 0,
) -> Any:
    top = name.partition(".")[0]
    if level or top not in REPLACED:
        return builtins.__import__(name, globals, locals, tuple(fromlist or ()), level)
    builtins.__import__(name)  # a module that does not exist fails here, as it would
    if not fromlist:
        return stand_in(top)
    module = stand_in(name)
    for attribute in fromlist:
        if attribute != "*" and not hasattr(module, attribute):
            builtins.__import__(name, None, None, (attribute,))
    return module


def retarget(
    name: str, namespace: dict[str, Any], rewrite: Callable[[str], str] = lambda source: source
) -> dict[str, Any]:
    """Execute the source of module `name` in `namespace`, with the imports changed.

    Parameters
    ----------
    name
        Dotted name of an installed module; it is not imported, only its source is read.
    namespace
        ``globals()`` of the module that takes its place. Workers import that one by name, so functions and classes
        defined in it pickle by reference, as in the original.
    rewrite
        Last changes to the text, keeping the number of lines.
    """
    path = source_path(name)
    source = rewrite(path.read_text(encoding="utf-8"))
    if TARGET == "scalepool":
        source = change(name, source)
        namespace["__builtins__"] = {**vars(builtins), "__import__": _import}
    exec(compile(source, str(path), "exec", dont_inherit=True), namespace)
    return namespace


def source_path(name: str) -> Path:
    """Return where a module's source lies; ModuleNotFoundError when the interpreter ships none."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ModuleNotFoundError(f"no source of {name} here", name=name)
    return Path(spec.origin)


def is_shipped(name: str) -> bool:
    """Tell whether this interpreter has the source of a module; some distributions leave tests out."""
    try:
        source_path(name)
    except ModuleNotFoundError:
        return False
    return True


def retarget_script(text: str) -> str:
    """Change the imports of a script that a test hands to a fresh interpreter."""
    if TARGET == "stdlib":
        return text
    for old, new in (
        ("from concurrent.futures import", "from scalepool.concurrent.futures import"),
        ("from multiprocessing import Pool", "from scalepool.multiprocessing import Pool"),
        ("from multiprocessing import get_context", "from scalepool.multiprocessing import get_context"),
        ("import multiprocessing\n", "import scalepool.multiprocessing as multiprocessing\n"),
    ):
        text = text.replace(old, new)
    return text


def retargeted_runner(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``assert_python_ok``: scripts given by ``-c`` or by file get their imports changed."""
    root = str(Path(__file__).resolve().parent.parent)

    def run(*arguments: str, **variables: Any) -> Any:
        changed = [retarget_script(argument) for argument in arguments]
        if arguments and arguments[0] != "-c" and Path(arguments[0]).is_file():
            script = Path(arguments[0])
            script.write_text(retarget_script(script.read_text(encoding="utf-8")), encoding="utf-8")
        # the runner isolates the interpreter (-I) when it is given no variable: then it would not see this checkout
        variables.setdefault("PYTHONPATH", os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]))
        return original(*changed, **variables)

    return run if TARGET == "scalepool" else original


def only(base: type, *tests: str) -> type:
    """Return a subclass of a test case in which only `tests` are left."""
    others = [name for name in dir(base) if name.startswith("test") and name not in tests]
    missing = [name for name in tests if not hasattr(base, name)]
    if missing and len(missing) == len(tests):
        others += missing  # an older interpreter has no such test
    module = sys._getframe(1).f_globals["__name__"]
    return type(base.__name__, (base,), {**dict.fromkeys(others), "__module__": module})

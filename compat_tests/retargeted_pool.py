"""CPython's ``test._test_multiprocessing`` on the drop-in ``multiprocessing``."""

from __future__ import annotations

import types
from importlib import import_module

from harness import retarget, retargeted_runner

namespace = retarget("test._test_multiprocessing", globals())

# Tests start fresh interpreters through this helper, under two spellings; only here is it changed.
_helper = import_module("test.support.script_helper")
_changed = types.ModuleType("script_helper")
_changed.__dict__.update(vars(_helper))
_changed.__dict__["assert_python_ok"] = retargeted_runner(_helper.assert_python_ok)


class _Support:
    """``test.support`` with the changed helper in it."""

    script_helper = _changed

    def __getattr__(self, name: str) -> object:
        return getattr(_real_test.support, name)


_real_test = namespace["test"]


class _Test:
    """The package ``test`` as this namespace sees it."""

    support = _Support()

    def __getattr__(self, name: str) -> object:
        return getattr(_real_test, name)


namespace["script_helper"] = _changed
namespace["test"] = _Test()

"""``multiprocessing.dummy``: the same names on threads. All of it is the standard library's own."""

from __future__ import annotations

from multiprocessing.dummy import *  # noqa: F403
from multiprocessing.dummy import Array as Array
from multiprocessing.dummy import DummyProcess as DummyProcess
from multiprocessing.dummy import Namespace as Namespace
from multiprocessing.dummy import Value as Value
from multiprocessing.dummy import __all__ as __all__
from multiprocessing.dummy import shutdown as shutdown

# The original has these two among its names, for code that treats the module as a manager.
dict = dict  # noqa: A001, PLW0127
list = list  # noqa: A001, PLW0127

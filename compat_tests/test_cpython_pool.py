"""CPython's own Pool tests, in their process and their thread flavour.

The manager flavour tests ``Manager().Pool()``, a Pool inside of a manager's server: no part of this module's drop-in.
"""

from __future__ import annotations

import unittest

import pytest
from harness import is_shipped, only

if not is_shipped("test._test_multiprocessing"):
    pytest.skip("this interpreter ships no test._test_multiprocessing", allow_module_level=True)

import retargeted_pool as original


class WithProcessesTestPool(original._TestPool, original.ProcessesMixin, unittest.TestCase):
    pass


class WithThreadsTestPool(original._TestPool, original.ThreadsMixin, unittest.TestCase):
    pass


class WithProcessesTestPoolWorkerErrors(original._TestPoolWorkerErrors, original.ProcessesMixin, unittest.TestCase):
    pass


class WithProcessesTestPoolWorkerLifetime(original._TestPoolWorkerLifetime, original.ProcessesMixin, unittest.TestCase):
    pass


TestInitializers = only(original.TestInitializers, "test_pool_initializer")
TestStdinBadfiledescriptor = only(original.TestStdinBadfiledescriptor, "test_pool_in_process")
TestPoolNotLeakOnFailure = only(original.TestPoolNotLeakOnFailure, "test_release_unused_processes")
MiscTestCase = only(original.MiscTestCase, "test_large_pool")

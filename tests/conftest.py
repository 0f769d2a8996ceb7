"""What all tests share: nothing may be left behind, neither processes nor files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis
from leftovers import pytest_configure, pytest_runtest_protocol, pytest_sessionfinish, pytest_terminal_summary

if TYPE_CHECKING:
    import pytest

# How long examples take is the machine's affair, and says nothing on a busy one.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")

__all__ = ["pytest_configure", "pytest_runtest_protocol", "pytest_sessionfinish", "pytest_terminal_summary"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick, pure tests first: their failures explain those of the live ones."""
    items.sort(key=lambda item: item.get_closest_marker("live") is not None)

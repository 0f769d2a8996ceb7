"""Drop-in for ``concurrent.futures.thread``: the standard library's own objects, so that the import can change too."""

from __future__ import annotations

from concurrent.futures.thread import BrokenThreadPool, ThreadPoolExecutor

__all__ = ["BrokenThreadPool", "ThreadPoolExecutor"]

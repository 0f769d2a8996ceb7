"""The machinery behind a Pool, by name; each comes with its first use.

A pool starts its session before anything of this is loaded (see ``lifecycle``): the workers' processes come up
meanwhile, and the first result is there 30 ms earlier.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scalepool._shims.callbacks import CallbackThread
    from scalepool._shims.chunks import ChunkPlan, MapChunk, check_chunksize
    from scalepool._shims.interrupted import undivided
    from scalepool._shims.outcomes import MISSING, check_on_error, is_failed
    from scalepool._shims.progress import Reporter, progress_sink
    from scalepool._shims.seeding import seeded
    from scalepool.multiprocessing.errors import POOL_ERRORS, for_arguments
    from scalepool.multiprocessing.feeding import ChunkTask, MapJob
    from scalepool.multiprocessing.iterators import IMapIterator, IMapUnorderedIterator
    from scalepool.multiprocessing.results import ApplyResult, AsyncResult, CallbackResult, MapResult, Settlement
    from scalepool.multiprocessing.streams import Stream, StreamOptions, StreamTask

_HOMES = {
    "_shims.callbacks": ("CallbackThread",),
    "_shims.chunks": ("ChunkPlan", "MapChunk", "check_chunksize"),
    "_shims.interrupted": ("undivided",),
    "_shims.outcomes": ("MISSING", "check_on_error", "is_failed"),
    "_shims.progress": ("Reporter", "progress_sink"),
    "_shims.seeding": ("seeded",),
    "multiprocessing.errors": ("POOL_ERRORS", "for_arguments"),
    "multiprocessing.feeding": ("ChunkTask", "MapJob"),
    "multiprocessing.iterators": ("IMapIterator", "IMapUnorderedIterator"),
    "multiprocessing.results": ("ApplyResult", "AsyncResult", "CallbackResult", "MapResult", "Settlement"),
    "multiprocessing.streams": ("Stream", "StreamOptions", "StreamTask"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "MISSING",
    "POOL_ERRORS",
    "ApplyResult",
    "AsyncResult",
    "CallbackResult",
    "CallbackThread",
    "ChunkPlan",
    "ChunkTask",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapChunk",
    "MapJob",
    "MapResult",
    "Reporter",
    "Settlement",
    "Stream",
    "StreamOptions",
    "StreamTask",
    "check_chunksize",
    "check_on_error",
    "for_arguments",
    "is_failed",
    "progress_sink",
    "seeded",
    "undivided",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"scalepool.{home}"), name)
    globals()[name] = value
    return value

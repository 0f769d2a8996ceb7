"""The memory that a task asked for is all that it gets: an attempt to have more is a MemoryError in it alone.

The kernel is told to refuse memory beyond what the process has when the task begins and what the task asked for. What
counts is private memory that can be written; shared memory, where large arguments and results lie, does not.
"""

from __future__ import annotations

import contextlib
import os
import resource
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.amounts import UNIT, amount_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

__all__ = ["Limited", "allow", "allowance", "writable_bytes"]

_DATA_FIELD: Final = 5
_STATM: Final = "/proc/self/statm"


class Limited:
    """A function that may have ``limit_bytes`` more memory than its process has when it is called.

    Parameters
    ----------
    fn
        The function.
    limit_bytes
        How much.
    name
        What errors call it.
    """

    __slots__ = ("fn", "limit_bytes", "name")

    def __init__(self, fn: Callable[..., Any], limit_bytes: int, name: str) -> None:
        self.fn = fn
        self.limit_bytes = limit_bytes
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it; where it makes a generator or a coroutine, that has the limit whenever it runs."""
        with self._limited():
            made = self.fn(*args, **kwargs)
        if isinstance(made, GeneratorType):
            return self._steps(made)
        if isinstance(made, CoroutineType):
            return self._awaited(made)
        return self._async_steps(made) if isinstance(made, AsyncGeneratorType) else made

    def _steps(self, made: GeneratorType[Any, Any, Any]) -> Iterator[Any]:
        with contextlib.closing(made):
            while True:
                with self._limited():
                    try:
                        value = next(made)
                    except StopIteration:
                        return
                yield value

    async def _awaited(self, made: CoroutineType[Any, Any, Any]) -> Any:
        with self._limited():
            return await made

    async def _async_steps(self, made: AsyncGeneratorType[Any, Any]) -> AsyncIterator[Any]:
        async with contextlib.aclosing(made):
            while True:
                with self._limited():
                    try:
                        value = await anext(made)
                    except StopAsyncIteration:
                        return
                yield value

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        try:
            with allowance(self.limit_bytes):
                yield
        except MemoryError as error:
            asked = amount_text("memory", self.limit_bytes * UNIT)
            what = f": {error}" if str(error) else ""
            text = f"{self.name} needs more than the {asked} that it asked for with memory={what}"
            raise MemoryError(text) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Limited, (self.fn, self.limit_bytes, self.name)


def writable_bytes() -> int:
    """Return how much private memory this process has that it can write; 0 where the system does not tell."""
    try:
        with open(_STATM, encoding="ascii") as file:  # noqa: PTH123 - pathlib takes 5 ms to import
            return int(file.read().split()[_DATA_FIELD]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def allow(limit_bytes: int) -> tuple[int, int] | None:
    """Let this process have so much more memory, and no more, from now on; return the limits that it had.

    ``None``, and nothing is limited, where the system does not tell what there is, or a limit is lower already.
    """
    used = writable_bytes()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + limit_bytes
    if not used or any(bound != resource.RLIM_INFINITY and bound <= wanted for bound in before):
        return None
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, before[1]))
    return before


@contextlib.contextmanager
def allowance(limit_bytes: int) -> Iterator[None]:
    """The same for as long as the block runs."""
    before = allow(limit_bytes)
    try:
        yield
    finally:
        if before is not None:
            resource.setrlimit(resource.RLIMIT_DATA, before)

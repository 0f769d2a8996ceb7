"""Random numbers in workers: no two workers draw the same, and a seeded map draws the same however it is cut.

A worker is forked from a process whose generators have a state, so it seeds them anew from the operating system.

``seed=`` of a map gives each *item* a child of that seed, by the item's position: the same child as
``numpy.random.SeedSequence(seed).spawn(n)[position]``. While the item runs, ``random`` and ``numpy.random`` start from
that child, and `task_rng` returns its generator. Afterwards the worker's own state is put back: other tasks must not
go on from a state that another worker may have had too.
"""

from __future__ import annotations

import contextlib
import operator
import random
import sys

# Where hashlib has it from; that would load OpenSSL (3 ms, 1 MB) into every worker.
from _blake2 import blake2b
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Seed", "SeededCall", "pause", "resume", "seed_from_os", "seed_torch", "task_rng"]

_TORCH_DEFAULT: Final = 67280421310721
"""What torch seeds its generator with when it loads: the same in every process."""


class Seed(NamedTuple):
    """Where the random numbers of a map come from; a child of it is the seed of one item.

    Attributes
    ----------
    entropy, spawn_key
        As in ``numpy.random.SeedSequence``.
    """

    entropy: int | tuple[int, ...]
    spawn_key: tuple[int, ...] = ()

    @classmethod
    def of(cls, seed: Any) -> Seed:
        """Return what the user gave as ``seed=``.

        Parameters
        ----------
        seed
            A whole number from 0 on, several of them, or a ``numpy.random.SeedSequence``, which stays as it is.

        Raises
        ------
        TypeError, ValueError
            When it is anything else.
        """
        if isinstance(seed, cls):
            return seed
        if hasattr(seed, "spawn_key") and hasattr(seed, "entropy"):
            return cls(_entropy(seed.entropy), tuple(map(int, seed.spawn_key)))
        return cls(_entropy(seed))

    def child(self, position: int) -> Seed:
        """Return the seed of the item at this position."""
        return Seed(self.entropy, (*self.spawn_key, position))

    def sequence(self) -> Any:
        """Return it as a ``numpy.random.SeedSequence``."""
        import numpy.random

        return numpy.random.SeedSequence(self.entropy, spawn_key=self.spawn_key)

    def number(self) -> int:
        """Return 256 bits for ``random.seed``; made without numpy, so that they are the same where there is none."""
        return int.from_bytes(blake2b(repr(tuple(self)).encode(), digest_size=32).digest(), "big")


def _entropy(seed: object) -> int | tuple[int, ...]:
    refusal = f"seed must be a whole number, several of them, or a numpy.random.SeedSequence, not {seed!r}"
    if isinstance(seed, (bool, str, bytes)):
        raise TypeError(refusal)
    numbers: tuple[int, ...]
    try:
        numbers = (operator.index(seed),)  # type: ignore[arg-type]
    except TypeError:
        try:
            numbers = tuple(map(operator.index, seed))  # type: ignore[call-overload]
        except TypeError:
            raise TypeError(refusal) from None
        if not numbers:
            raise ValueError("seed must not be empty") from None
    if min(numbers) < 0:
        raise ValueError(f"seed must not be negative: {seed!r}")
    return numbers[0] if len(numbers) == 1 else numbers


class _Item:
    """The seeded item that this process is in."""

    __slots__ = ("generator", "seed")

    def __init__(self, seed: Seed) -> None:
        self.seed = seed
        self.generator: Any = None


_active: _Item | None = None
_numpy_sought = False
_spares: list[Any] = []
"""Generators of numpy that nobody uses: to make one takes 0.1 ms."""


class SeededCall:
    """A picklable function of (position, item) that calls ``fn`` on the item with generators seeded for the position.

    Parameters
    ----------
    fn
        The user's function.
    seed
        Of the whole map.
    star
        The item is a tuple of arguments.
    """

    __slots__ = ("_seed", "_star", "fn")

    def __init__(self, fn: Callable[..., Any], seed: Seed, star: bool = False) -> None:
        self.fn = fn  # under this name the core finds the user's function, to name it in errors
        self._seed = seed
        self._star = star

    def __reduce__(self) -> tuple[type[SeededCall], tuple[Callable[..., Any], Seed, bool]]:
        return type(self), (self.fn, self._seed, self._star)

    def __call__(self, numbered: tuple[int, Any]) -> Any:
        """Run one item."""
        position, item = numbered
        outer = _enter(_Item(self._seed.child(position)))
        try:
            return self.fn(*item) if self._star else self.fn(item)
        except BaseException as error:
            # The user's traceback begins below this frame.
            below = error.__traceback__.tb_next if error.__traceback__ is not None else None
            if below is not None:
                error.__traceback__ = below
            raise
        finally:
            resume(outer)


class _State:
    """What a process's generators were, while something else uses others."""

    __slots__ = ("_numpy", "_python", "_spare", "item")

    def __init__(self, item: _Item | None) -> None:
        self.item = item
        self._python = random.getstate()
        self._numpy = self._spare = None
        numpy_random = _numpy_random()
        if numpy_random is None:
            return
        if not hasattr(numpy_random, "set_bit_generator"):  # before numpy 1.24
            self._numpy = numpy_random.get_state(legacy=False)
            return
        # To put another generator in the place of the global one is cheap; to copy its state back and forth is not.
        self._numpy = numpy_random.get_bit_generator()
        self._spare = _spares.pop() if _spares else numpy_random.MT19937(0)
        numpy_random.set_bit_generator(self._spare)

    def restore(self) -> None:
        """Make them so again."""
        random.setstate(self._python)
        numpy_random = _numpy_random()
        if numpy_random is None:
            return
        if self._numpy is None:  # loaded meanwhile
            numpy_random.seed()
        elif self._spare is None:
            numpy_random.set_state(self._numpy)
        else:
            numpy_random.set_bit_generator(self._numpy)
            _spares.append(self._spare)


def _enter(item: _Item) -> _State:
    """Seed for ``item``; return what was before."""
    global _active, _numpy_sought  # noqa: PLW0603 - a process runs one task at a time
    if not _numpy_sought:
        # An item that imported numpy itself would find it seeded by chance. So it is loaded, where there is one.
        _numpy_sought = True
        with contextlib.suppress(ImportError):
            import numpy.random  # noqa: F401
    outer = _State(_active)
    _active = item
    random.seed(item.seed.number())
    numpy_random = _numpy_random()
    if numpy_random is not None:
        numpy_random.seed(item.seed.sequence().generate_state(8))
    return outer


def pause() -> _State | None:
    """Leave the seeded item for a while, in which other tasks may run here; returns what `resume` needs."""
    global _active  # noqa: PLW0603
    if _active is None:
        return None
    paused = _State(_active)
    _active = None
    seed_from_os()
    return paused


def resume(state: _State | None) -> None:
    """Go on where ``state`` was taken."""
    global _active  # noqa: PLW0603
    if state is not None:
        state.restore()
        _active = state.item


def task_rng() -> Any:
    """Return the ``numpy.random.Generator`` of the item that runs now.

    With ``seed=`` on the map this is ``numpy.random.default_rng(SeedSequence(seed).spawn(n)[position])``, one object
    for the whole item. Anywhere else it is a fresh generator, seeded by the operating system: the same code runs with
    and without ``seed=``.

    Raises
    ------
    ImportError
        Without numpy.
    """
    import numpy.random

    item = _active
    if item is None:
        return numpy.random.default_rng()
    if item.generator is None:
        item.generator = numpy.random.default_rng(item.seed.sequence())
    return item.generator


def seed_from_os() -> None:
    """Seed the generators of this process anew: all workers of a zygote start with its state."""
    random.seed()
    numpy_random = _numpy_random()
    if numpy_random is not None:
        numpy_random.seed()
    seed_torch()


def seed_torch() -> None:
    """Seed torch's generator unless somebody has: every process that loads torch starts with the same state."""
    torch: Any = sys.modules.get("torch")
    generator = getattr(torch, "default_generator", None)
    if generator is not None and generator.initial_seed() == _TORCH_DEFAULT:
        generator.seed()


def _numpy_random() -> Any:
    return sys.modules.get("numpy.random")

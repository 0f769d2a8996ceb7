"""Remote functions: a function and how its calls are to run."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from scalepool._base.qualified import imported, lookup
from scalepool._base.tuples import NamedTuple
from scalepool._core.leasing import WHILE_IT_RUNS
from scalepool._core.resources import most_at_once
from scalepool._runtime.demands import (
    NamedAmounts,
    NamedLabels,
    asked,
    check_fits,
    checked_labels,
    checked_resources,
    demand_of,
    memory_of,
    specified,
    threads_of,
)
from scalepool._runtime.functions import name_of
from scalepool._runtime.group import Need, WorkerGroup, limits_of, terms_of
from scalepool._runtime.kept import Retrying
from scalepool._runtime.offers import offers_of
from scalepool._runtime.options import FOR_EVER, changed, check_count
from scalepool._runtime.outgoing import KeptCall
from scalepool._runtime.returning import Returning, check_ahead, check_returns, checked_kinds, kinds_of
from scalepool._runtime.session import current
from scalepool._runtime.values import values_of
from scalepool._wire.pickling.importable import by_value_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scalepool._core.resources import Demand
    from scalepool._core.task import Terms
    from scalepool._runtime.client import Client
    from scalepool._runtime.functions import Function
    from scalepool._runtime.refs import ObjectRef
    from scalepool._runtime.session import DriverSession, WorkerSession
    from scalepool._runtime.spec import WorkerSpec
    from scalepool.config import Settings

__all__ = ["ONE_CPU", "Options", "RemoteFunction"]

R = TypeVar("R")

_RAYS_BACKPRESSURE: Final = "_generator_backpressure_num_objects"
_GROUPS_MAX: Final = 32


class Options(NamedTuple):
    """How the calls of a remote function run; see ``scalepool.remote`` for what each means."""

    num_returns: int | str | None = None
    max_retries: int | None = None
    retry_exceptions: bool | tuple[type[BaseException], ...] = False
    timeout_s: float | None = None
    name: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    resources: NamedAmounts = ()
    memory: int | str | None = None
    generator_backpressure: int | None = None
    label_selector: NamedLabels = ()

    def updated(self, changes: dict[str, Any]) -> Options:
        """Return these options with some others.

        Raises
        ------
        TypeError, ValueError
            When one of them does not exist, or has a value that makes no sense.
        """
        if _RAYS_BACKPRESSURE in changes:
            changes = {**changes, "generator_backpressure": changes[_RAYS_BACKPRESSURE]}
            del changes[_RAYS_BACKPRESSURE]
        options = changed(self, changes, "a remote function")
        given: tuple[Any, ...] = options  # whatever the caller has written
        returns, retries, kinds, timeout_s, name = given[:5]
        check_returns(returns)
        check_ahead(options.generator_backpressure)
        check_count("max_retries", retries, none=True)
        terms_of(timeout_s, 0)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str, not {name!r}")
        options = options._replace(
            retry_exceptions=checked_kinds(kinds),
            resources=checked_resources(options.resources),
            label_selector=checked_labels(options.label_selector),
        )
        options.demand  # noqa: B018 - raises where it makes no sense
        return options

    @property
    def retries(self) -> int:
        """How often a started task may be started again."""
        if self.max_retries is None:
            return 3 if self.retry_exceptions else 0
        return FOR_EVER if self.max_retries < 0 else self.max_retries

    @property
    def demand(self) -> Demand:
        """What a call needs while it runs: one CPU where nothing is said."""
        num_cpus = 1 if self.num_cpus is None else self.num_cpus
        return demand_of(num_cpus, self.num_gpus, self.resources, self.memory, self.label_selector)

    @property
    def terms(self) -> Terms:
        """The same for the hub."""
        return terms_of(self.timeout_s, self.retries)

    @property
    def kinds(self) -> tuple[type[BaseException], ...]:
        """The exceptions after which it is."""
        return kinds_of(self.retry_exceptions)


_DEFAULT: Final = Options()
ONE_CPU: Final = _DEFAULT.demand
"""What a call needs where nothing is said."""


class RemoteFunction(Generic[R]):
    """A function whose calls run in the session's workers; made by ``scalepool.remote``.

    Attributes
    ----------
    function
        The function itself, to be called here.
    """

    def __init__(self, function: Callable[..., R], options: Options = _DEFAULT) -> None:
        check_function(function)
        functools.update_wrapper(self, function, updated=())
        self.__qualname__ = name_of(function)
        self.function = function
        self._options = options
        self._terms = options.terms
        self._demand = options.demand
        self._returning = Returning(options.num_returns, options.generator_backpressure, function)
        self._exported: tuple[Client, Function] | None = None
        self._called: Callable[..., Any] | None = None
        """What was exported the last time that it was not found by its name."""

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a call; return an ObjectRef for its result, or with ``num_returns=n`` a list of n of them.

        A generator function's call returns an ObjectRefGenerator, one with ``num_returns=0`` ``None``.

        An ObjectRef among the arguments stands for its value: the call starts when that is there. One that is inside
        of another argument, such as a list, stays an ObjectRef. Mirrors Ray.

        Raises
        ------
        SerializationError
            When the function or an argument cannot be pickled.
        SessionError
            When the session has ended, or a reference belongs to another one.
        """
        return self._returning.of(self._submit(args, kwargs))

    def map(self, *iterables: Iterable[Any]) -> list[Any]:
        """Call ``remote`` with each item, or with the items of several iterables side by side; return a list.

        Ray has no such thing: it is for ``[f.remote(x) for x in xs]``.
        """
        if not iterables:
            raise TypeError("map() needs at least one iterable")
        return [self.remote(*items) for items in zip(*iterables, strict=False)]

    def options(self, **changes: Any) -> RemoteFunction[R]:
        """Return the same remote function with other options; takes what ``scalepool.remote`` takes."""
        return RemoteFunction(self.function, self._options.updated(changes))

    def _submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[ObjectRef[R]]:
        session = current()
        client = session.client
        options = self._options
        function = self._export(client)
        kept = KeptCall(options.name or function.name, self._returning.number, self._terms, session.kept_task)
        group = group_of(session, self._demand, kept.name)
        return values_of(client).submit(group._state, function, (args, kwargs), kept)

    def _export(self, client: Client) -> Function:
        """Return the function ready to travel; by name, where workers find this object under its name."""
        exported = self._exported
        if exported is not None and exported[0] is client:
            return exported[1]
        # What it was exported as notes the names that it would be found by: while that holds they are as they were.
        function = None if self._called is None else client.exporter.same(self._called)
        return self._export_anew(client) if function is None else function

    def _export_anew(self, client: Client) -> Function:
        kinds = self._options.kinds
        named = self._is_found_by_name()
        called: Callable[..., Any] = _Named(self) if named else self.function
        if limit_bytes := memory_of(self._options.memory):
            from scalepool._runtime.allowance import Limited

            called = Limited(called, limit_bytes, self._options.name or self.__qualname__)
        called = self._returning.wrapped(called, kinds)
        called = Retrying(called, kinds, self._options.retries) if kinds else called
        function = client.exporter.export(called)
        if not named:
            self._called = called
        else:
            function.name = self.__qualname__
            self._exported = (client, function)
        return function

    def _is_found_by_name(self) -> bool:
        function = self.function
        module = getattr(function, "__module__", None)
        if type(function) is not FunctionType or module is None or module in by_value_modules().names():
            return False
        found = lookup(module, function.__qualname__)
        return isinstance(found, RemoteFunction) and found.function is function

    def fingerprint_parts(self) -> tuple[object, ...]:
        """Return what a pickle of it depends on."""
        return (self.function, *self._options)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Remote functions are not called directly."""
        raise TypeError(
            f"{self.__qualname__} is a remote function: call {self.__qualname__}.remote(...) to run it in a worker, "
            f"or {self.__qualname__}.function(...) to run it here"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if self._is_found_by_name():
            function = self.function
            return _restore, (function.__module__, function.__qualname__, tuple(self._options))
        return _make, (self.function, tuple(self._options))

    def __repr__(self) -> str:
        return f"<RemoteFunction {self.__qualname__}>"


class _Named:
    """Pickles as the function of a remote function that workers find by name."""

    def __init__(self, remote: RemoteFunction[Any]) -> None:
        self.fn = remote.function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _function, (self.fn.__module__, self.fn.__qualname__)


def check_function(function: object) -> None:
    """Raise TypeError for what cannot be a remote function."""
    if inspect.isclass(function):
        raise TypeError(f"{function.__qualname__} is a class: scalepool.remote makes an ActorClass of it")
    if not callable(function):
        raise TypeError(f"remote() takes a function, not {function!r}")
    if isinstance(function, RemoteFunction):
        raise TypeError(f"{function!r} is a remote function already; use .options(...) to change how it runs")


class _Counted(Need):
    """What the calls of remote functions need, which count in the session's ledger."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand

    def limits(self, _: int, __: int, threads: int | None) -> dict[str, str]:
        return limits_of(threads_of(self._demand), 1, threads)

    def specify(self, spec: WorkerSpec, own: Settings) -> WorkerSpec:
        return specified(spec, self._demand, own)

    def fields(self) -> tuple[Any, ...]:
        return asked(self._demand, WHILE_IT_RUNS)


class _RemoteGroup(WorkerGroup):
    """All remote calls of a process that need the same, however deep in each other, are of one group."""

    def __init__(self, demand: Demand, most: int) -> None:
        self._need = _Counted(demand)
        super().__init__(max(1, most))

    def _parent(self, session: DriverSession | WorkerSession) -> int:
        return session.root_group


def group_of(session: DriverSession | WorkerSession, demand: Demand, name: str) -> WorkerGroup:
    """Return the group that calls from here run in which need this; ``name`` is what errors call them.

    Raises
    ------
    ResourceError
        When they need more than the session has in all.
    """
    key = (session.root_group, demand)
    groups: dict[tuple[int, Demand], WorkerGroup] = values_of(session.client).groups
    group = groups.get(key)
    if group is None or group._state.closed or group._state.gone:
        while len(groups) >= _GROUPS_MAX:
            groups.pop(next(iter(groups))).close()
        offers = offers_of(session)
        check_fits(demand, offers, name)
        # The hub of a cluster knows better how many these are.
        group = groups[key] = _RemoteGroup(demand, sum(most_at_once(demand, total) for _, total in offers))
    return group


def _function(module: str, qualname: str) -> Callable[..., Any]:
    found = imported(module, qualname)
    if not isinstance(found, RemoteFunction):
        raise AttributeError(f"{module}.{qualname} is not a remote function in this process")
    return found.function


def _restore(module: str, qualname: str, options: tuple[Any, ...]) -> RemoteFunction[Any]:
    found = imported(module, qualname)
    if isinstance(found, RemoteFunction) and tuple(found._options) == options:
        return found
    return RemoteFunction(_function(module, qualname), Options(*options))


def _make(function: Callable[..., Any], options: tuple[Any, ...]) -> RemoteFunction[Any]:
    return RemoteFunction(function, Options(*options))

"""Actor classes: a class, how its actors run, and their beginning."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from scalepool._base.qualified import imported
from scalepool._base.tuples import NamedTuple
from scalepool._core.leasing import FOR_LIFE
from scalepool._core.task import PLAIN
from scalepool._proc.context import ProcessContext
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
from scalepool._runtime.group import limits_of
from scalepool._runtime.handles import ActorHandle, ActorMeta, MethodOptions, meta_of
from scalepool._runtime.instance import MARK, Creation, Plan
from scalepool._runtime.logs import current_levels
from scalepool._runtime.offers import offers_of
from scalepool._runtime.options import changed, check_count
from scalepool._runtime.outgoing import KeptCall
from scalepool._runtime.remote import ONE_CPU, group_of
from scalepool._runtime.returning import yields
from scalepool._runtime.session import current, is_in_cluster
from scalepool._runtime.spec import WorkerSpec
from scalepool._runtime.values import values_of
from scalepool._wire import actors as wire
from scalepool._wire.pickling.importable import by_value_modules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._core.resources import Demand
    from scalepool._runtime.client import Client
    from scalepool._runtime.session import DriverSession, WorkerSession

__all__ = ["ActorClass", "ActorOptions", "find_actor", "mark_method"]

T = TypeVar("T")

_ASYNC_CONCURRENCY: Final = 1000
_TAKEN: Final = "there is an actor named {!r} already; see get_if_exists=True"


class ActorOptions(NamedTuple):
    """How actors of a class run; see ``scalepool.remote`` for what each means."""

    max_concurrency: int | None = None
    max_restarts: int = 0
    max_task_retries: int = 0
    name: str | None = None
    namespace: str | None = None
    lifetime: str | None = None
    get_if_exists: bool = False
    concurrency_groups: Mapping[str, int] = {}
    num_cpus: float | None = None
    num_gpus: float | None = None
    resources: NamedAmounts = ()
    memory: int | str | None = None
    label_selector: NamedLabels = ()

    def updated(self, changes: Mapping[str, Any]) -> ActorOptions:
        """Return these options with some others.

        Raises
        ------
        TypeError, ValueError
            When one of them does not exist, or has a value that makes no sense.
        """
        options = changed(self, changes, "an actor")
        check_count("max_concurrency", options.max_concurrency, none=True, infinite=False, least=1)
        check_count("max_restarts", options.max_restarts)
        check_count("max_task_retries", options.max_task_retries)
        for key in ("name", "namespace"):
            text = getattr(options, key)
            if text is not None and (not isinstance(text, str) or not text):
                raise ValueError(f"{key} must be a str that is not empty, not {text!r}")
        if options.lifetime not in (None, "detached"):
            raise ValueError(f"lifetime must be 'detached' or None, not {options.lifetime!r}")
        groups: Any = options.concurrency_groups
        if not isinstance(groups, dict) or not all(isinstance(key, str) and key for key in groups):
            raise TypeError("concurrency_groups must be a dict of names and how many calls of each may run at once")
        for key, limit in groups.items():
            check_count(f"concurrency_groups[{key!r}]", limit, infinite=False, least=1)
        if options.get_if_exists and options.name is None:
            raise ValueError("get_if_exists needs a name")
        options = options._replace(
            concurrency_groups=dict(groups), resources=checked_resources(options.resources),
            label_selector=checked_labels(options.label_selector),
        )  # fmt: skip
        options.demand  # noqa: B018 - raises where it makes no sense
        return options

    @property
    def demand(self) -> Demand:
        """What an actor holds while it lives: nothing where nothing is said."""
        return demand_of(self.num_cpus, self.num_gpus, self.resources, self.memory, self.label_selector)

    @property
    def full_name(self) -> bytes:
        """What the hub knows the actor by; empty: nothing."""
        return full_name(self.name, self.namespace) if self.name else b""


_DEFAULT: Final = ActorOptions()


def full_name(name: str, namespace: str | None) -> bytes:
    """Return a name in its namespace."""
    return f"{namespace}\0{name}".encode() if namespace else name.encode()


def mark_method(changes: Mapping[str, Any]) -> Any:
    """Return a decorator that gives a method options of its own."""
    MethodOptions().updated(changes)

    def mark(function: Any) -> Any:
        setattr(function, MARK, dict(changes))
        return function

    return mark


class ActorClass(Generic[T]):
    """A class whose objects live in processes of their own; made by ``scalepool.remote``.

    Attributes
    ----------
    actor_class
        The class itself.
    """

    def __init__(self, cls: type[T], options: ActorOptions = _DEFAULT) -> None:
        functools.update_wrapper(self, cls, updated=())
        self.actor_class = cls
        self._options = options
        self._methods, self._others, self._is_async = _look_into(cls)
        for name, method in self._methods.items():
            group = method.concurrency_group
            if group and group not in options.concurrency_groups:
                raise ValueError(f"{cls.__qualname__}.{name} is of concurrency group {group!r}, which is not declared")

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        """Start a process, and make an object of the class in it; return a handle at once.

        An ObjectRef among the arguments stands for its value, as in calls of remote functions. What the constructor
        raises is the cause of the ActorDiedError that calls of methods end with.

        Raises
        ------
        SerializationError
            When the class or an argument cannot be pickled.
        ValueError
            When the name is taken.
        SessionError
            When the session has ended, or a reference belongs to another one.
        """
        session = current()
        values = values_of(session.client)
        options, cls = self._options, self.actor_class.__qualname__
        meta = ActorMeta(
            cls, options.name or "", self._methods, self._others, tuple(options.concurrency_groups),
            options.max_task_retries,
        )  # fmt: skip
        named = options._replace(namespace=options.namespace or session.settings.namespace or None)
        demand = options.demand
        check_fits(demand, offers_of(session), f"{cls}()")
        plan = self._plan()._replace(meta=meta.packed())
        function = session.client.exporter.export(Creation(self.actor_class, plan))
        kept = KeptCall(f"{cls}()", 1, PLAIN, session.kept_task)
        arguments = values.pack((args, kwargs), kept)
        actor = session.client.new_object_id()
        opened = wire.OpenActor(
            actor, group_of(session, ONE_CPU, cls).group_id, _spec(session, cls, demand).encode(), options.max_restarts,
            plan.concurrency, int(options.lifetime is not None), named.full_name,
            cls.encode(), meta.packed(), *asked(demand, FOR_LIFE)[1:],
        )  # fmt: skip
        if options.lifetime is not None and is_in_cluster(session):
            return self._detached(session, opened, (function, arguments, kept))
        if options.name:
            with session.client.questions.asked(actor, opened) as found:
                if found.actor == actor:  # somebody may have found it meanwhile, and be through with it already
                    return ActorHandle(values.enqueue(actor, function, arguments, kept, actor)[0], meta)
                if options.get_if_exists:
                    return _adopt(session.client, found)
                values.adopt(found.actor, found.actor, cls)  # and drop: it is held
            raise ValueError(_TAKEN.format(options.name))
        session.client.post(opened)
        return ActorHandle(values.enqueue(actor, function, arguments, kept, actor)[0], meta)

    def _detached(self, session: Any, opened: wire.OpenActor, creation: tuple[Any, Any, KeptCall]) -> ActorHandle:
        """Make it an actor of the cluster, not of this session."""
        from scalepool._runtime.detached import make_detached

        handle, is_new = make_detached(session, opened, creation)
        if not is_new and not self._options.get_if_exists:
            raise ValueError(_TAKEN.format(self._options.name))
        return handle

    def options(self, **changes: Any) -> ActorClass[T]:
        """Return the same class with other options; takes what ``scalepool.remote`` takes for classes."""
        return ActorClass(self.actor_class, self._options.updated(changes))

    def _plan(self) -> Plan:
        options = self._options
        default = options.max_concurrency or (_ASYNC_CONCURRENCY if self._is_async else 1)
        return Plan(
            self._is_async, {"": default, **options.concurrency_groups}, memory_of(options.memory), options.name or ""
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Actor classes are not called directly."""
        name = self.actor_class.__qualname__
        raise TypeError(
            f"{name} is an actor class: call {name}.remote(...) to make one in a process of its own, or "
            f"{name}.actor_class(...) for a plain object here"
        )

    def __mro_entries__(self, _: tuple[Any, ...]) -> tuple[type[T]]:
        return (self.actor_class,)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.actor_class)

    def __reduce__(self) -> tuple[Any, ...]:
        from scalepool._runtime.instance import is_found_by_name

        cls = self.actor_class
        if is_found_by_name(cls):
            return _restore, (cls.__module__, cls.__qualname__, tuple(self._options))
        return _make, (cls, tuple(self._options))

    def __repr__(self) -> str:
        return f"<ActorClass {self.actor_class.__qualname__}>"


def find_actor(name: str, namespace: str | None) -> ActorHandle:
    """See ``scalepool.get_actor``."""
    if not name:
        raise ValueError(f"the name of an actor must be a str that is not empty, not {name!r}")
    session = current()
    client, namespace = session.client, namespace or session.settings.namespace
    values_of(client)
    request = client.new_object_id()
    with client.questions.asked(request, wire.FindActor(request, full_name(name, namespace))) as found:
        if found.actor:
            return _adopt(client, found)
    if is_in_cluster(session):
        from scalepool._runtime.detached import find_detached

        handle = find_detached(session, full_name(name, namespace))
        if handle is not None:
            return handle
    where = f" in namespace {namespace!r}" if namespace else ""
    raise ValueError(f"there is no actor named {name!r}{where}; it may have ended")


def _adopt(client: Client, found: wire.ActorFound) -> ActorHandle:
    meta = meta_of(found.meta)
    return ActorHandle(values_of(client).adopt(found.actor, found.actor, f"{meta.cls}()"), meta)


def _spec(session: DriverSession | WorkerSession, cls: str, demand: Demand) -> WorkerSpec:
    context = ProcessContext.capture()
    by_value_modules().look_from(context.cwd, context.sys_path)
    limits = limits_of(threads_of(demand), 1, None)
    spec = WorkerSpec(limits, context.encode(), name=f"ScalepoolActor-{cls}", levels=current_levels())
    return specified(spec, demand, session.settings)


def _look_into(cls: type[Any]) -> tuple[dict[str, MethodOptions], dict[str, str], bool]:
    """Return the methods of a class, what else it has, and whether some method is a coroutine function."""
    methods: dict[str, MethodOptions] = {}
    others: dict[str, str] = {}
    is_async = False
    for name in dir(cls):
        found = inspect.getattr_static(cls, name)
        if name.startswith("__") and name != "__call__":
            continue
        if isinstance(found, property):
            others[name] = "a property"
        elif isinstance(found, (staticmethod, classmethod)) or inspect.isroutine(found) or callable(found):
            function = getattr(found, "__func__", found)
            options = MethodOptions().updated(getattr(function, MARK, {}))
            if options.num_returns is None and yields(function):
                options = options._replace(num_returns="streaming")
            methods[name] = options
            is_async = is_async or inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        else:
            others[name] = "an attribute of the class"
    return methods, others, is_async


def _restore(module: str, qualname: str, options: tuple[Any, ...]) -> ActorClass[Any]:
    found = imported(module, qualname)
    if not isinstance(found, ActorClass):
        raise AttributeError(f"{module}.{qualname} is not an actor class in this process")
    if tuple(found._options) == options:
        return found
    return ActorClass(found.actor_class, ActorOptions(*options))


def _make(cls: type[Any], options: tuple[Any, ...]) -> ActorClass[Any]:
    return ActorClass(cls, ActorOptions(*options))

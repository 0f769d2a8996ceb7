"""``__main__`` in two real processes: what a notebook or script defines behaves as with multiprocessing.Pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scripts import run_main

if TYPE_CHECKING:
    from pathlib import Path


def test_a_global_set_by_the_initializer_is_seen_by_later_tasks(tmp_path: Path) -> None:
    run_main(
        """
        model = None
        calls = 0
        log = []

        def initializer(value):
            global model
            model = value

        def task():
            global calls
            calls += 1
            log.append(calls)
            return model, calls, list(log)

        with Peer() as peer:
            peer.call(initializer, 7)
            assert peer.call(task) == (7, 1, [1])
            assert peer.call(task) == (7, 2, [1, 2])
            assert peer.call(lambda: (model, calls)) == (7, 2)
            assert (model, calls, log) == (None, 0, [])  # nothing leaks back
        """,
        tmp_path,
    )


def test_a_global_that_only_the_worker_sets(tmp_path: Path) -> None:
    run_main(
        """
        def initializer():
            global model
            model = 7
        def task():
            return model
        with Peer() as peer:
            peer.call(initializer)
            assert peer.call(task) == 7
        assert "model" not in globals()
        """,
        tmp_path,
    )


def test_what_the_parent_rebinds_or_edits_wins(tmp_path: Path) -> None:
    run_main(
        """
        factor = 2
        options = {"a": 1}
        def task(): return factor, dict(options)
        def change():
            global factor
            factor = 99
            options["worker"] = True

        with Peer() as peer:
            assert peer.call(task) == (2, {"a": 1})
            peer.call(change)
            assert peer.call(task) == (99, {"a": 1, "worker": True})
            factor = 3
            assert peer.call(task) == (3, {"a": 1, "worker": True})
            options["b"] = 2
            assert peer.call(task) == (3, {"a": 1, "b": 2})
            factor = 2  # back to an earlier value
            assert peer.call(task)[0] == 2
        """,
        tmp_path,
    )


def test_an_old_pickle_does_not_undo_a_newer_value(tmp_path: Path) -> None:
    run_main(
        """
        x = 1
        def f(): return x
        def g(): return x
        with Peer() as peer:
            old = dumps((f, ()), oob_threshold=1 << 16).data
            x = 2
            assert peer.call(g) == 2
            peer.send_raw(old)
            assert peer.receive() == 2
        """,
        tmp_path,
    )


def test_redefined_functions_and_classes_win(tmp_path: Path) -> None:
    run_main(
        """
        def helper(): return "old"
        class Thing:
            def name(self): return "old"
        def task(): return helper(), Thing().name()
        with Peer() as peer:
            assert peer.call(task) == ("old", "old")
            Old = Thing
            def helper(): return "new"
            class Thing:
                def name(self): return "new"
            assert peer.call(task) == ("new", "new")
            assert type(peer.call(lambda: Thing())) is Thing
            assert type(peer.call(lambda thing: thing, Old())) is Old
        """,
        tmp_path,
    )


def test_every_kind_of_function(tmp_path: Path) -> None:
    run_main(
        """
        import functools, os.path
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def twice(f):
            @functools.wraps(f)
            def wrapper(*a, **k): return 2 * f(*a, **k)
            return wrapper
        @twice
        def decorated(x, *, y=1): return x + y
        def make(n):
            def inner(x): return x + n
            return inner
        class C:
            shared = 5
            def __init__(self, v): self.v = v
            def method(self, x): return self.v + x
            @classmethod
            def cm(cls, x): return cls.shared + x
            @staticmethod
            def sm(x): return x
            @property
            def prop(self): return self.v
            def up(self): return super().__repr__()[:1]
        @functools.singledispatch
        def show(x): return "object"
        @show.register
        def _(x: int): return "int"
        @show.register(list)
        def _(x): return [show(i) for i in x]
        @functools.lru_cache(maxsize=10)
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        def gen(n): yield from range(n)
        def path(): return os.path.basename(__file__), __name__
        with Peer() as peer:
            call = peer.call
            assert call(even, 10) and not call(odd, 10)
            assert call(decorated, 3, ) == 8 and call(functools.partial(decorated, y=4), 1) == 10
            assert call(make(5), 1) == 6
            assert call(lambda x: x * 2, 21) == 42
            assert call(C(1).method, 2) == 3 and call(C.cm, 1) == 6 and call(C.sm, 9) == 9
            assert call(lambda c: c.prop, C(4)) == 4 and call(C(1).up) == "<"
            assert call(show, [1, "a", [2]]) == ["int", "object", ["int"]]
            assert call(fib, 30) == 832040 and call(lambda: fib.cache_info().maxsize) == 10
            assert call(lambda: list(gen(3))) == [0, 1, 2]
            assert call(path) == ("user_script.py", "__main__")
            assert call(make, 3)(4) == 7  # a closure made in the worker
        """,
        tmp_path,
    )


def test_classes_keep_their_identity(tmp_path: Path) -> None:
    run_main(
        """
        import abc, collections, enum, typing, dataclasses
        @dataclasses.dataclass(frozen=True)
        class Point:
            x: int
            y: "int" = 0
            tags: list = dataclasses.field(default_factory=list)
        class Color(enum.Enum):
            RED = 1
            GREEN = 2
            def nice(self): return self.name.title()
        class Flag(enum.IntFlag):
            A = 1
            B = 2
        Pair = collections.namedtuple("Pair", "a b")
        class Row(typing.NamedTuple):
            a: int
        class Base(abc.ABC):
            @abc.abstractmethod
            def f(self): ...
        class Child(Base):
            __slots__ = ("v",)
            def f(self): return 1
        class Outer:
            class Inner: pass
        class Meta(type):
            def __call__(cls, *a): return super().__call__(*a)
        class WithMeta(metaclass=Meta): pass
        T = typing.TypeVar("T")
        class Box(typing.Generic[T]):
            pass
        UserId = typing.NewType("UserId", int)
        def annotated(x: UserId) -> UserId: return UserId(x)
        def local():
            class Local: pass
            return Local
        Local = local()
        values = [Point(1, 2), Color.RED, Flag.A | Flag.B, Pair(1, 2), Row(3), Child(), Outer.Inner(), WithMeta(),
                  Box(), Local()]
        def same(v): return v
        def check(v, w):
            return v == Point(1, 2), isinstance(v, Point), w is Color.RED, Color.RED.nice(), w == Color(1)
        with Peer() as peer:
            for value in values:
                for _ in range(2):
                    back = peer.call(same, value)
                    assert type(back) is type(value), (back, value)
            assert peer.call(same, Point(1, 2)) == Point(1, 2)
            assert peer.call(same, Color.GREEN) is Color.GREEN
            assert peer.call(lambda: Point(5)) == Point(5)
            assert peer.call(lambda: Color.GREEN) is Color.GREEN
            assert peer.call(check, Point(1, 2), Color.RED) == (True, True, True, "Red", True)
            assert peer.call(lambda: Point) is Point and peer.call(same, Local) is Local
            assert peer.call(same, check) is check  # the caller's own function
            assert peer.call(annotated, 3) == 3
            def keep(v):
                global kept
                kept = v
            peer.call(keep, Point(1, 2))
            assert peer.call(lambda v: (isinstance(kept, type(v)), kept == v), Point(1, 2)) == (True, True)
            def by_name():
                import pickle, sys
                return pickle.dumps(Point(8)), sys.modules["__main__"].Point is Point
            data, found = peer.call(by_name)
            import pickle
            assert found and pickle.loads(data) == Point(8)  # plain pickle by reference works both ways
        """,
        tmp_path,
    )


def test_class_attributes_behave_like_globals(tmp_path: Path) -> None:
    run_main(
        """
        class Counter:
            count = 0
            seen = []
            def bump(self):
                type(self).count += 1
                self.seen.append(1)
                return self.count, len(self.seen)
        bump = Counter.bump
        with Peer() as peer:
            assert peer.call(Counter().bump) == (1, 1)
            assert peer.call(Counter().bump) == (2, 2)
            assert peer.call(lambda: Counter())
            assert (Counter.count, Counter.seen, Counter.bump) == (0, [], bump)
            Counter.count = 10
            assert peer.call(Counter().bump) == (11, 3)
            Counter.bump = lambda self: "patched"
            assert peer.call(lambda: Counter().bump()) == "patched"
        """,
        tmp_path,
    )


def test_importable_modules_share_the_workers_own_module(tmp_path: Path) -> None:
    run_main(
        """
        import helper
        with Peer() as peer:
            assert peer.call(helper.nested(5)) == (5, 1)
            assert peer.call(helper.count) == 2
            assert peer.call(helper.nested(6)) == (6, 3)
            assert helper.calls == 0
        """,
        tmp_path,
        helper="""
        import threading
        lock = threading.Lock()
        calls = 0
        def count():
            global calls
            with lock:
                calls += 1
            return calls
        def nested(n):
            return lambda: (n, count())
        """,
    )


def test_modules_that_cannot_be_imported_travel_by_value(tmp_path: Path) -> None:
    run_main(
        """
        import sys, types, importlib.util, pathlib
        made = types.ModuleType("made_here")
        exec('''
        state = None
        def init(v):
            global state
            state = v
        def task(): return state
        class Thing:
            pass
        '''.replace("\\n        ", "\\n"), made.__dict__)
        sys.modules["made_here"] = made
        path = pathlib.Path(__file__).parent / "somewhere" / "plugin.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("def f(x): return x + 1\\n")
        spec = importlib.util.spec_from_file_location("my_plugin", path)
        plugin = sys.modules["my_plugin"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plugin)
        anonymous = {}
        exec("y = 3\\ndef g(): return y", anonymous)
        with Peer() as peer:
            peer.call(made.init, 5)
            assert peer.call(made.task) == 5
            assert type(peer.call(lambda x: x, made.Thing())) is made.Thing
            assert peer.call(plugin.f, 1) == 2
            assert peer.call(anonymous["g"]) == 3
        """,
        tmp_path,
    )


def test_values_set_by_two_senders_do_not_undo_each_other(tmp_path: Path) -> None:
    run_main(
        """
        import pickle
        from scalepool._wire.pickling.exchange import Exchange, install
        x = 1
        def f(): return x
        with Peer() as peer:
            assert peer.call(f) == 1
            first = install(Exchange(55))
            x = 2
            assert peer.call(f) == 2
            second = install(first)
            x = 1
            assert peer.call(f) == 2 # nothing was rebound for the first sender: the later value stays
        """,
        tmp_path,
    )


def test_numpy_arrays_in_globals(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    run_main(
        """
        import numpy as np
        data = np.zeros(100_000)
        def total(): return float(data.sum())
        def fill(): data[:] = 1
        with Peer() as peer:
            assert peer.call(total) == 0
            peer.call(fill)
            assert peer.call(total) == 100_000
            data[0] = 5
            assert peer.call(total) == 5
            assert peer.call(lambda a: a.flags.writeable, data)
        """,
        tmp_path,
    )


def test_exceptions_of_main_are_caught_by_their_own_class(tmp_path: Path) -> None:
    run_main(
        """
        class Mine(Exception):
            def __init__(self, code, *, note):
                super().__init__(f"code {code}")
                self.code, self.note = code, note
        def fail(): raise Mine(3, note="n")
        def chain():
            try:
                fail()
            except Mine as e:
                raise ValueError("outer") from e
        def leave(): raise SystemExit(4)
        with Peer() as peer:
            try:
                peer.call(fail)
            except Mine as e:
                assert (e.code, e.note, str(e)) == (3, "n", "code 3")
                assert 'raise Mine(3, note="n")' in str(e.__cause__) and "in fail" in str(e.__cause__)
            else:
                raise AssertionError
            try:
                peer.call(chain)
            except ValueError as e:
                assert type(e.__context__) is Mine
            try:
                peer.call(leave)
            except SystemExit as e:
                assert e.code == 4
            try:
                peer.call(lambda: __import__("threading").Lock())
            except Exception as e:
                assert type(e).__name__ == "ResultEncodingError" and "lock" in e.value_repr
            else:
                raise AssertionError
            assert peer.call(lambda: 1) == 1
        """,
        tmp_path,
    )


def test_a_nested_submitter_passes_on_what_it_received(tmp_path: Path) -> None:
    run_main(
        """
        class Foo:
            v = 1
        x = 5
        def inner(foo): return x, isinstance(foo, Foo), foo
        def outer(foo):
            from peer import Peer
            with Peer(9) as second:
                x_there, ok, back = second.call(inner, foo)
            return x_there, ok, type(back) is type(foo), back
        with Peer() as peer:
            x_there, ok, same, back = peer.call(outer, Foo())
            assert (x_there, ok, same) == (5, True, True)
            assert type(back) is Foo
        """,
        tmp_path,
    )


def test_a_class_that_was_redefined_while_its_instance_was_away(tmp_path: Path) -> None:
    run_main(
        """
        class Foo: pass
        with Peer() as peer:
            peer.send(lambda foo: foo, Foo())
            class Foo: new = True
            assert not hasattr(peer.receive(), "new")  # the class it was sent as
            assert peer.call(lambda foo: foo, Foo()).new
        """,
        tmp_path,
    )

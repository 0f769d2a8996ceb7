"""The layer law of docs/design.md as functions of source text: modules in, complaints out.

`test_layers.py` runs them over the package, and over small made-up packages that break each rule once, so that a
rule which stopped working is noticed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PACKAGE = "scalepool"

#: The units (first name below the package) of each layer, bottom first. ``""`` is the package's own ``__init__``.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "config", "_base"}),
    frozenset({"_wire"}),
    frozenset({"_core"}),
    frozenset({"_net", "_store", "_proc"}),
    frozenset({"engines", "_runtime"}),
    frozenset({"api", "tasks", "actors", "observing", "_progress", ""}),
    frozenset(
        {
            "multiprocessing",
            "concurrent",
            "joblib_backend",
            "redirection",
            "_joblib",
            "_shims",
            "cli",
            "dashboard",
            "testing",
            "util",
            "bench",
            "__main__",
            "__pyinstaller",
        }
    ),
)

#: Within a layer units do not know each other, but for these: (importer's unit, imported unit or module).
NEIGHBOURS = frozenset(
    {
        ("_base", "errors"),
        ("config", "_base"),
        ("config", "errors"),
        ("errors", "_base.tuples"),
        ("errors", "_base.post_mortem"),
        ("", "api"),
        ("", "tasks"),
        ("", "actors"),
        ("", "_progress"),
        ("_progress", "tasks"),
        ("", "observing"),
        ("", "util"),  # an attribute of the package, loaded when it is asked for
        ("", "_joblib.registration"),  # importing the package makes joblib know the backend's name, without its code
        ("_runtime", "engines"),  # a session asks an engine for workers ...
        ("engines", "_runtime.spec"),  # ... of which an engine knows only how they are described
        ("", "redirection"),  # ... and in a worker of a program that said install() makes its names stand for ours
        ("redirection", "_joblib.registration"),
        ("redirection", "multiprocessing"),
        ("redirection", "concurrent"),
        ("cli", "redirection"),
        ("multiprocessing", "_shims"),
        ("concurrent", "_shims"),
        ("_joblib", "_shims"),
        ("_joblib", "joblib_backend"),  # the registered factory imports the backend when one is made
        ("joblib_backend", "_joblib"),
        ("joblib_backend", "_shims"),
        ("bench", "multiprocessing"),  # what is measured is what users call
        ("bench", "concurrent"),
        ("bench", "util"),
        ("cli", "bench"),  # a verb
        ("__main__", "cli"),
    }
)

#: Layer 3 touches the outside and takes no decisions: it may not know the decisions either.
UNIT_FORBIDS_UNIT = {unit: frozenset({"_core"}) for unit in ("_net", "_store", "_proc")}

PURE = ("_core", "_wire")
IMPURE_MODULES = frozenset({"zmq", "os", "socket", "time", "threading", "random", "logging"})


@dataclass(frozen=True)
class Monopoly:
    """A capability that only `owners` (units, or dotted prefixes below the package) may use.

    `excused` may, too: benchmarks, which run other things than the package.
    """

    what: str
    owners: tuple[str, ...]
    modules: frozenset[str] = frozenset()
    os_calls: frozenset[str] = frozenset()
    excused: tuple[str, ...] = ()


MONOPOLIES = (
    Monopoly("zmq", ("_net",), frozenset({"zmq"})),
    Monopoly(
        "starting processes",
        ("_proc",),
        frozenset({"subprocess", "_posixsubprocess", "pty", "multiprocessing.process", "multiprocessing.popen_fork"}),
        frozenset({"fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp", "execv", "execve", "execvp"}),
        # every run of a benchmark is an interpreter of its own, and so is a program whose start is measured
        excused=("bench.launch", "bench.workloads.starts"),
    ),
    Monopoly(
        "shared memory",
        ("_store",),
        frozenset({"mmap", "multiprocessing.shared_memory", "_posixshmem"}),
        frozenset({"memfd_create"}),
        excused=("bench.workloads.objects",),  # what the store is compared with
    ),
    Monopoly(
        "pickle",
        # joblib's batches carry arrays by reference into the store: that needs reducers of its own
        # and a view of bytes is made by PickleBuffer, which pickles nothing
        ("_wire.payload", "_wire.pickling", "_runtime.executor", "_joblib.pickling", "_store.windows"),
        frozenset({"pickle", "_pickle", "cloudpickle", "dill", "marshal"}),
    ),
)


@dataclass(frozen=True)
class Limits:
    """Sizes that a reader can hold; see docs/design.md."""

    file_lines: int = 400
    function_lines: int = 40
    class_methods: int = 20
    constructor_parameters: int = 6


@dataclass
class Module:
    """One source file: its dotted name, text and syntax tree."""

    name: str
    source: str
    is_package: bool = False
    tree: ast.Module = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.source)

    @property
    def unit(self) -> str:
        """First name below the package: ``scalepool._core.hub`` belongs to ``_core``."""
        return self.name.split(".")[1] if "." in self.name else ""

    @property
    def inner(self) -> str:
        """Name below the package, e.g. ``_core.hub``."""
        return self.name.partition(".")[2]


Tree = dict[str, Module]


def load(root: Path) -> Tree:
    """Read a package's directory."""
    tree: Tree = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        tree[name] = Module(name, path.read_text(encoding="utf-8"), is_package)
    return tree


_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


# --- imports -----------------------------------------------------------------------------------------------------


def _is_type_checking(node: ast.AST) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _runtime_nodes(node: ast.AST, *, inside_functions: bool = True) -> Iterator[ast.AST]:
    """Walk everything but what only the type checker sees."""
    children: Iterator[ast.AST] | list[ast.stmt] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and _is_type_checking(node):
        children = node.orelse
    elif isinstance(node, _Function) and not inside_functions:
        return
    else:
        yield node
    for child in children:
        yield from _runtime_nodes(child, inside_functions=inside_functions)


def imported(module: Module, tree: Mapping[str, Module], *, inside_functions: bool = True) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of each import at run time."""
    for node in _runtime_nodes(module.tree, inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                # `from package import name` means a submodule where there is one, else the package itself
                is_submodule = full in tree or (not base.startswith(PACKAGE) and full in _KNOWN_SUBMODULES)
                yield node.lineno, full if is_submodule else base


_KNOWN_SUBMODULES = frozenset(name for monopoly in MONOPOLIES for name in monopoly.modules if "." in name)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    keep = len(parts) - node.level + (1 if module.is_package else 0)
    return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def layer_of(unit: str) -> int:
    """Return the number of the layer that lists this unit; KeyError for a unit that no layer lists."""
    for number, units in enumerate(LAYERS):
        if unit in units:
            return number
    raise KeyError(unit)


def check_direction(tree: Tree) -> Iterator[str]:
    """Imports go to lower layers, to the own unit, or to a neighbour that is allowed by name."""
    for module in tree.values():
        try:
            here = layer_of(module.unit)
        except KeyError:
            yield f"{module.name}: no layer lists {module.unit!r}"
            continue
        for line, name in imported(module, tree):
            target = _inside(name, tree)
            if target is None or target.unit == module.unit:
                continue
            if target.unit in UNIT_FORBIDS_UNIT.get(module.unit, ()):
                yield f"{module.name}:{line} imports {name}: {module.unit} must not know {target.unit}"
            elif layer_of(target.unit) >= here and not _are_neighbours(module, target):
                yield f"{module.name}:{line} imports {name}, which is not below it"


def _are_neighbours(module: Module, target: Module) -> bool:
    return (module.unit, target.unit) in NEIGHBOURS or (module.unit, target.inner) in NEIGHBOURS


def _inside(name: str, tree: Mapping[str, Module]) -> Module | None:
    """Return the module of the package that an import name leads to."""
    if name.partition(".")[0] != PACKAGE:
        return None
    while name not in tree and "." in name:
        name = name.rpartition(".")[0]
    return tree[name]


def check_cycles(tree: Tree) -> Iterator[str]:
    """No module needs itself to be imported. What a function imports when it runs is no edge, nor is the root."""
    edges: dict[str, list[str]] = {}
    for module in tree.values():
        targets = (_inside(name, tree) for _, name in imported(module, tree, inside_functions=False))
        names = {target.name for target in targets if target is not None and target.name != PACKAGE}
        edges[module.name] = sorted(names - {module.name})
    done: set[str] = set()
    for start in edges:
        cycle = _find_cycle(start, edges, done, [])
        if cycle:
            yield "import cycle: " + " -> ".join(cycle)
            return


def _find_cycle(name: str, edges: Mapping[str, list[str]], done: set[str], path: list[str]) -> list[str]:
    if name in path:
        return [*path[path.index(name) :], name]
    if name in done:
        return []
    for target in edges[name]:
        cycle = _find_cycle(target, edges, done, [*path, name])
        if cycle:
            return cycle
    done.add(name)
    return []


# --- who may touch what ------------------------------------------------------------------------------------------


def check_purity(tree: Tree) -> Iterator[str]:
    """The core and the wire know no clock, socket, thread or chance."""
    for module in tree.values():
        if module.unit in PURE:
            for line, name in imported(module, tree):
                if name.split(".")[0] in IMPURE_MODULES:
                    yield f"{module.name}:{line} imports {name}, but {module.unit} is pure"


def check_monopolies(tree: Tree) -> Iterator[str]:
    """Each capability that touches the outside has one owner."""
    for module in tree.values():
        for monopoly in MONOPOLIES:
            allowed = (*monopoly.owners, *monopoly.excused)
            if any(module.inner == owner or module.inner.startswith(owner + ".") for owner in allowed):
                continue
            for line, name in imported(module, tree):
                if any(name == taken or name.startswith(taken + ".") for taken in monopoly.modules):
                    yield f"{module.name}:{line} imports {name}: {monopoly.what} belongs to {monopoly.owners}"
            for line, name in _os_uses(module):
                if name in monopoly.os_calls:
                    yield f"{module.name}:{line} uses os.{name}: {monopoly.what} belongs to {monopoly.owners}"


def _os_uses(module: Module) -> Iterator[tuple[int, str]]:
    for node in _runtime_nodes(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from ((node.lineno, alias.name) for alias in node.names)


# --- sizes -------------------------------------------------------------------------------------------------------


def check_sizes(tree: Tree, limits: Limits = Limits(), excused: frozenset[str] = frozenset()) -> Iterator[str]:
    """Files, functions, classes and constructors fit their budgets, but for the `excused` constructors by name."""
    for module in tree.values():
        lines = len(module.source.splitlines())
        if lines > limits.file_lines:
            yield f"{module.name}: {lines} lines, more than {limits.file_lines}"
        for node in ast.walk(module.tree):
            if isinstance(node, _Function):
                count, most = code_lines(node, module.source), limits.function_lines
                if count > most:
                    yield f"{module.name}:{node.lineno} {node.name}: {count} code lines, more than {most}"
            elif isinstance(node, ast.ClassDef):
                yield from _check_class(module, node, limits, excused)


def _check_class(module: Module, node: ast.ClassDef, limits: Limits, excused: frozenset[str]) -> Iterator[str]:
    methods = [child for child in node.body if isinstance(child, _Function) and not _is_overload(child)]
    names = {method.name for method in methods}
    if len(names) > limits.class_methods:
        yield f"{module.name}:{node.lineno} {node.name}: {len(names)} methods, more than {limits.class_methods}"
    for method in methods:
        if method.name == "__init__" and f"{module.name}.{node.name}" not in excused:
            parameters = constructor_parameters(method)
            if parameters > limits.constructor_parameters:
                yield f"{module.name}:{node.lineno} {node.name}: constructor with {parameters} parameters"


def _is_overload(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in function.decorator_list)


def constructor_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the parameters, without ``self``."""
    arguments = function.args
    named = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
    return named - 1 + (arguments.vararg is not None) + (arguments.kwarg is not None)


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> int:
    """Count a function's lines without blank lines, comments and docstrings (its own and those inside)."""
    prose: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = source.splitlines()
    numbers = range(function.lineno, (function.end_lineno or function.lineno) + 1)
    return sum(
        1
        for number in numbers
        if number not in prose and lines[number - 1].strip() and not lines[number - 1].lstrip().startswith("#")
    )


CHECKS: dict[str, Callable[[Tree], Iterator[str]]] = {
    "direction": check_direction,
    "cycles": check_cycles,
    "purity": check_purity,
    "monopolies": check_monopolies,
}

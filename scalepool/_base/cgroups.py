"""Which cgroups this process is in, as the kernel lists them."""

from __future__ import annotations

from scalepool._base.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Membership", "memberships", "read_text"]


class Membership(NamedTuple):
    """One cgroup: `path` below its mount, and the `controllers` of version 1; empty for version 2."""

    controllers: tuple[str, ...]
    path: str


def memberships(root: str) -> Iterator[Membership]:
    """Yield the cgroups of this process.

    Parameters
    ----------
    root
        Directory that stands for ``/`` when ``proc`` is read.
    """
    for line in read_text(f"{root}/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers or number == "0":
            yield Membership(tuple(controllers.split(",")) if controllers else (), path)


def read_text(path: str) -> str:
    """Return the text of a small file; an unreadable one has none (no such file is the normal case here)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib takes 5 ms to import
            return file.read()
    except OSError:
        return ""

"""What errors tell of a process that died in the middle of a task."""

from __future__ import annotations

from scalepool._base.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["NOTHING", "PostMortem", "Unfinished", "manner_of_death", "signal_name"]


class PostMortem(NamedTuple):
    """What could be found out about a task that its worker did not finish; each part may be missing.

    Attributes
    ----------
    item
        Which item of the input it was, counted from 0, in calls that have many.
    arguments
        Short repr of what the task was called with.
    peak_rss_bytes
        Most memory that the worker process ever had.
    oom
        Why we think that the machine ran out of memory, as a sentence; empty when nothing says so.
    stderr
        The last lines that the worker's Python code wrote to ``sys.stderr``.
    stack
        Where its threads were, as ``faulthandler`` wrote it down at the end.
    reason
        Anything else that is known.
    """

    item: int | None = None
    arguments: str = ""
    peak_rss_bytes: int | None = None
    oom: str = ""
    stderr: str = ""
    stack: str = ""
    reason: str = ""

    def lines(self) -> str:
        """Return what is known, some indented lines; empty when nothing is."""
        out = [f"  {self.reason}"] if self.reason else []
        if self.oom:
            out.append(f"  out of memory: {self.oom}")
        if self.peak_rss_bytes is not None:
            out.append(f"  the worker's memory was {self.peak_rss_bytes / 2**20:.0f} MiB at its peak")
        for title, text in (("last lines on stderr", self.stderr), ("stack at the end", self.stack)):
            if text:
                out += [f"  {title}:", *(f"    {line}" for line in text.splitlines())]
        return "".join(f"\n{line}" for line in out)

    def call(self, task: str) -> str:
        """Return which call it was."""
        where = "" if self.item is None else f", item {self.item} of its input,"
        return f"{task or 'a task'}{self.arguments}{where}"


NOTHING: Final = PostMortem()


class Unfinished:
    """Of errors about a task that its worker did not finish: what they have in common."""

    task: str
    pid: int
    host: str
    attempt: int
    post_mortem: PostMortem

    @property
    def index(self) -> int | None:
        """Which item of the input it was, counted from 0; ``None`` for a single call."""
        return self.post_mortem.item

    @property
    def arguments(self) -> str:
        """Short repr of what the task was called with; empty when it is not known."""
        return self.post_mortem.arguments

    @property
    def stderr(self) -> str:
        """The last lines that the worker's Python code wrote to ``sys.stderr``."""
        return self.post_mortem.stderr

    @property
    def stack(self) -> str:
        """Where the worker's threads were at the end, by ``faulthandler``; empty when it could not say."""
        return self.post_mortem.stack

    @property
    def peak_rss_bytes(self) -> int | None:
        """Most memory that the worker process ever had."""
        return self.post_mortem.peak_rss_bytes

    def note(self, **known: Any) -> None:
        """Add to what is known: fields of `PostMortem` by name."""
        self.post_mortem = self.post_mortem._replace(**known)


def signal_name(exitcode: int | None) -> str | None:
    """Return the name of the signal that an exit code means; ``None`` when it means none."""
    if exitcode is None or exitcode >= 0:
        return None
    import signal  # late: with its enums it is a millisecond, and few programs see a worker die

    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


def manner_of_death(exitcode: int | None) -> str:
    """Return what happened to a process, as a verb."""
    if exitcode is None:
        return "disappeared"
    name = signal_name(exitcode)
    return f"was killed by {name}" if name else f"exited with code {exitcode}"

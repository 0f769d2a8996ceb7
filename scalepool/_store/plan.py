"""How the store of a session is to work: decided once, where the session starts, and told to every process of it."""

from __future__ import annotations

from scalepool._base.tuples import NamedTuple
from scalepool._store.budget import BudgetLimits
from scalepool._store.files import HAS_MEMFD

__all__ = ["StorePlan"]


class StorePlan(NamedTuple):
    """What the stores of all processes of a session agree on.

    Attributes
    ----------
    directory
        The session's; empty: each process is on its own.
    memory_bytes
        Shared memory that all objects may take together.
    spill_bytes, spill_dir
        Disk that spilled objects may take (``None``: half of what is free), and where; empty: nowhere.
    use_memfd
        Whether segments are memfds, not files in the directory.
    key
        What processes say to get descriptors passed over a socket, in hexadecimal digits; empty: they open them through
        /proc.
    """

    directory: str = ""
    memory_bytes: int = 1 << 62
    spill_bytes: int | None = None
    spill_dir: str = ""
    use_memfd: bool = HAS_MEMFD
    key: str = ""

    @property
    def socket(self) -> str:
        """Path of the socket over which descriptors are passed."""
        return f"{self.directory}/fds"

    @property
    def limits(self) -> BudgetLimits:
        """What they may use."""
        return BudgetLimits(self.memory_bytes, self.spill_bytes, self.spill_dir)

    @property
    def account(self) -> str:
        """Path of the account of what they use; empty when there is no directory."""
        return f"{self.directory}/store" if self.directory else ""

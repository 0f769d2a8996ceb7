"""Whether starting one more worker is of use where some do not answer.

What a silent worker had not begun was taken back from it (see ``revoking``). It may have been stopped: then somebody
else has to be started in its place. But mostly it was only given no processor, as there are many of them, or others
on the machine: it answers as soon as it runs, and one more process is the last thing that such a machine needs. So
whom the kernel does not call stopped still counts as one of its group's workers. Not for ever, since there are other
ways to be stuck (a frozen container, a disk that does not answer, a thread that lets no other run): for each
``DOUBT_S`` seconds that the first of them was silent there is one more that is not waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.workers import WorkerState

if TYPE_CHECKING:
    from scalepool._core.state import HubState

__all__ = ["DOUBT_S", "expected_back"]

DOUBT_S: Final = 2.0


def expected_back(state: HubState, key: int) -> int:
    """Return how many workers of this key hold nothing, owe an answer, and are waited for; see to a later look."""
    silent_since = [
        worker.revocation.revoked_at
        for worker in state.roster.workers.values()
        if worker.revocation.pending
        and worker.key == key
        and not worker.revocation.is_stopped
        and worker.state is WorkerState.READY
        and not worker.held
        and not worker.waits
    ]
    if not silent_since:
        return 0
    first = min(silent_since)
    given_up = int((state.now - first) / DOUBT_S)
    # A little later than needed: a difference of floats must not fall short of it.
    state.alarm(first + (given_up + 1) * DOUBT_S + 1e-4)
    return max(0, len(silent_since) - given_up)

"""What becomes of a task whose worker is gone."""

from __future__ import annotations

import pytest

from scalepool._core.retry import Verdict, after_death


@pytest.mark.parametrize(
    ("started", "attempt", "max_retries", "expected"),
    [
        (False, 1, 0, Verdict.REQUEUE),
        (False, 9, 0, Verdict.REQUEUE),
        (True, 1, 0, Verdict.FAIL),
        (True, 1, 1, Verdict.RETRY),
        (True, 2, 1, Verdict.FAIL),
        (True, 2, 2, Verdict.RETRY),
        (True, 1, -1, Verdict.FAIL),
    ],
)
def test_after_death(started: bool, attempt: int, max_retries: int, expected: Verdict) -> None:
    assert after_death(started=started, attempt=attempt, max_retries=max_retries) is expected

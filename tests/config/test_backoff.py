from __future__ import annotations

from istiod.config import backoff
from istiod.config.kubernetes import ApiError


def test_an_api_server_that_fails_is_asked_ever_more_rarely_up_to_half_a_minute() -> None:
    broken = ApiError("down", status=503)
    waits = [backoff.delay(n, broken, 1.0, started=True) for n in range(1, 12)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.25, 30.0)
    assert backoff.delay(11, broken, 0.0, started=True) == 15.0


def test_one_that_cannot_be_reached_is_tried_every_two_seconds() -> None:
    assert backoff.delay(50, None, 1.0, started=True) == 2.0
    assert backoff.delay(50, ApiError("refused"), 1.0, started=True) == 2.0


def test_a_start_waits_eagerly_for_a_crd_or_a_right_and_later_there_is_time() -> None:
    for status in (403, 404):
        missing = ApiError("no", status=status)
        assert backoff.delay(50, missing, 1.0, started=False) == 2.0
        assert backoff.delay(50, missing, 1.0, started=True) == 30.0


def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    assert backoff.delay(1, ApiError("busy", status=429, retry_after=17.0), 0.0, started=True) == 17.0

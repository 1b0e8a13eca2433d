from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crds import duration
from crds.virtual_service import HTTPRoute

_MILLISECOND = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("1.5s", 1500),
        ("300ms", 300),
        ("1h2m3.5s", 3_723_500),
        (".5s", 500),
        ("1.s", 1000),
        ("-2s", -2000),
        ("+2s", 2000),
        ("2000us", 2),
        ("2000µs", 2),
        ("3000000ns", 3),
    ],
)
def test_durations_read_as_go_reads_them(text: str, milliseconds: int) -> None:
    assert duration.parse(text) == milliseconds * _MILLISECOND


@pytest.mark.parametrize("text", ["1.000000001s", "1000000001ns", "-1.000000001s"])
def test_what_is_finer_than_a_microsecond_is_rounded_and_never_whole(text: str) -> None:
    found = duration.parse(text)
    assert abs(found) == timedelta(seconds=1)
    assert not duration.is_whole(found, _MILLISECOND)
    assert duration.is_whole(timedelta(seconds=1), _MILLISECOND)


@pytest.mark.parametrize("text", ["", "-", "5", "s", ".s", "1 s", "1d", "1s2", "٣s", "9" * 70 + "s", "9999999h"])
def test_what_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration.parse(text)


@pytest.mark.parametrize(("milliseconds", "text"), [(0, "0s"), (1500, "1.5s"), (-250, "-0.250s"), (60_000, "60s")])
def test_durations_are_written_in_seconds(milliseconds: int, text: str) -> None:
    assert duration.parse(duration.text(milliseconds * _MILLISECOND)) == duration.parse(text)


@given(st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)))
def test_what_is_written_reads_the_same(value: timedelta) -> None:
    assert duration.parse(duration.text(value)) == value


def test_a_field_takes_text_or_a_timedelta_and_writes_text() -> None:
    assert HTTPRoute.model_validate({"timeout": "3s"}) == HTTPRoute(timeout=timedelta(seconds=3))
    assert HTTPRoute(timeout=timedelta(seconds=3)).model_dump(mode="json")["timeout"] == "3s"
    with pytest.raises(ValidationError):
        HTTPRoute.model_validate({"timeout": 3})

from __future__ import annotations

import pytest

from agent import departure
from agent.bootstrap.inputs import InputError


def test_a_departure_takes_what_the_grace_period_leaves() -> None:
    assert departure.limit({}) is None
    assert departure.limit({"DRAIN_UNTIL_ACKNOWLEDGED": "false"}) is None
    asked = {"DRAIN_UNTIL_ACKNOWLEDGED": "true"}
    assert departure.limit(asked) == 27
    assert departure.limit({**asked, "POD_TERMINATION_GRACE_PERIOD_SECONDS": "10"}) == 7
    assert departure.limit({**asked, "POD_TERMINATION_GRACE_PERIOD_SECONDS": "1"}) == 0


def test_a_grace_period_that_is_none_is_named() -> None:
    asked = {"DRAIN_UNTIL_ACKNOWLEDGED": "true", "POD_TERMINATION_GRACE_PERIOD_SECONDS": "long"}
    with pytest.raises(InputError, match="POD_TERMINATION_GRACE_PERIOD_SECONDS: 'long' is no number of seconds"):
        departure.limit(asked)

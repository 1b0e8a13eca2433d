"""How all tests run: how long a drawn example takes says nothing on machines that are shared."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["e2e.harness.plugin"]

settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

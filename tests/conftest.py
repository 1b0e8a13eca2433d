"""How all tests run: how long a drawn example takes says nothing on machines that are shared.

The same examples come each time: a change is held against what the change before it passed. `make test-long` draws
others each time (`--hypothesis-profile=anew`); what it finds becomes an `@example`.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["e2e.harness.plugin"]

settings.register_profile("anew", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("seeded", settings.get_profile("anew"), derandomize=True, database=None)
settings.load_profile("seeded")

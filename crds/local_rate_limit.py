"""LocalRateLimit: how many requests a workload takes in a time (features row X1). It is ours, not Istio's.

Istio has no API for Envoy's local rate limit and sends users to EnvoyFilter. Group ``extensions.istiod.dev``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import Field

from crds.duration import Duration
from crds.meta import Bool, Ignored, Model, Object, UInt32, WorkloadSelector

GROUP: Final = "extensions.istiod.dev"
TOO_MANY: Final = 429


class HeaderMatch(Model):
    """A header: ``values`` of which one must match, each exact, a prefix (abc*), a suffix (*abc), or * for any."""

    name: str = ""
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class RequestMatch(Model):
    """Which requests are counted; all fields that are there must hold."""

    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()


class Limit(Model):
    """A bucket of tokens, one per request: how many are filled in, how often, and how many it holds."""

    requests: UInt32 = 0
    per: Duration | None = None
    burst: UInt32 | None = None


class LimitRule(Model):
    """One limit, and the requests that it counts; absent: all."""

    name: str = ""
    match: RequestMatch | None = None
    limit: Limit = Limit()
    per_connection: Bool = False
    status: UInt32 = TOO_MANY
    response_headers: Mapping[str, str] = Field(default_factory=dict)


class LocalRateLimitSpec(Model):
    """How many requests each proxy of the selected workloads takes; what is more is refused."""

    selector: WorkloadSelector | None = None
    rules: tuple[LimitRule, ...] = ()


class LocalRateLimit(Object):
    """extensions.istiod.dev LocalRateLimit."""

    spec: LocalRateLimitSpec = LocalRateLimitSpec()
    status: Ignored = None

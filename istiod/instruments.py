"""Puts the counters into the parts that they count: what each part tells, and under which name it is kept.

How a count becomes a metric is left to istiod.debug, when something is worth telling to the parts themselves.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from crds import local_rate_limit
from crds.key import NETWORKING, SECURITY, TELEMETRY
from istiod import push
from istiod.ads.connection import Settings
from istiod.ads.deliveries import Deliveries
from istiod.ads.quota import StreamLimits
from istiod.ca.serving import ServingCertificate
from istiod.ca.signer import Signer
from istiod.debug.counts import Counts
from istiod.pipeline import Pipeline
from istiod.push import Pushed
from istiod.supervision import Lines

KEPT: Final = frozenset((NETWORKING, SECURITY, TELEMETRY, local_rate_limit.GROUP))
"""Groups of objects that somebody may wait for."""
ROOT: Final = "citadel_server_root_cert_expiry"
SERVING: Final = "pilot_serving_cert_expiry"
_LOGGER = logging.getLogger(__name__)


def streams(counts: Counts, limits: StreamLimits, refused: Callable[[], None], pipeline: Pipeline) -> Settings:
    """Settings of the ADS server; ``refused`` is told of each refusal as well."""

    def refuse(type_url: str) -> None:
        counts.refused(type_url)
        refused()

    return Settings(
        streams=limits,
        on_refusal=refuse,
        on_sent=counts.sent,
        on_queued=counts.queue.observe,
        on_converged=counts.convergence.observe,
        on_secretless=counts.lack_secret,
        on_fault=counts.fault,
        since=lambda: pipeline.since,
        hurried=lambda: pipeline.pending,
    )


def pushed(counts: Counts, deliveries: Callable[[], Deliveries | None]) -> Callable[[Pushed], None]:
    """What is told each push; proxies have to acknowledge what objects of Istio's API make.

    Where targets of some proxies could not be made, the log has the bugs, the same ones once a minute at most.
    """
    lines = Lines(_LOGGER.error, time.monotonic)

    def told(done: Pushed) -> None:
        counts.pushed(done.started - done.since, done.stages)
        if (found := deliveries()) is not None:
            found.note([key for key in done.keys if key.group in KEPT], done.proxies)
        if done.failed:
            counts.unbuilt += 1
            counts.fault()
            lines.say("".join(traceback.format_exception(push.failure(done.failed))))

    return told


def running(pipeline: Pipeline, counts: Counts) -> Callable[[], Awaitable[None]]:
    """The pipeline's run, with each bug that ends it counted."""

    async def run() -> None:
        try:
            await pipeline.run()
        except Exception:
            counts.unbuilt += 1
            counts.fault()
            raise

    return run


def ends(signer: Signer | None, serving: ServingCertificate | None) -> Mapping[str, float]:
    """Unix times at which our certificates end, by the name of their metrics."""
    found = {}
    if signer is not None:
        found[ROOT] = signer.current.root_expires.timestamp()
    if serving is not None:
        found[SERVING] = serving.ends.timestamp()
    return found

"""Retry policies of VirtualServices, on top of the mesh's default (features row F12; Istio: retry.ConvertPolicy)."""

from __future__ import annotations

from dataclasses import replace

from crds import virtual_service
from istiod.mesh.route import Retry

_BY_STATUS = "retriable-status-codes"


def convert(said: virtual_service.HTTPRetry | None, default: Retry) -> Retry | None:
    """The policy: the default where nothing is said, None where attempts are 0."""
    if said is None:
        return default if default.attempts > 0 else None
    if said.attempts <= 0:
        return None
    retry_on, codes = _conditions(said.retry_on, default)
    previous = said.retry_ignore_previous_hosts
    return replace(
        default,
        attempts=said.attempts,
        retry_on=retry_on,
        status_codes=codes,
        per_try_timeout=said.per_try_timeout or default.per_try_timeout,
        remote_localities=bool(said.retry_remote_localities),
        ignore_previous_hosts=default.ignore_previous_hosts if previous is None else previous,
        backoff=said.backoff or default.backoff,
    )


def _conditions(said: str, default: Retry) -> tuple[str, tuple[int, ...]]:
    """``retryOn`` taken apart: policies as Envoy's list, numbers as status codes."""
    if not said:
        return default.retry_on, default.status_codes
    parts = [part.strip() for part in said.split(",")]
    codes = tuple(int(part) for part in parts if _is_status(part))
    policies = [part for part in parts if part and not _is_status(part)]
    if codes and _BY_STATUS not in policies:
        policies.append(_BY_STATUS)
    return ",".join(policies), codes


def _is_status(part: str) -> bool:
    """Whether it is a status code; other numbers are no policy that Envoy knows, and so none at all."""
    return len(part) == len("503") and part.isdecimal()

"""What clients got, and what proxies logged of it, as endings of tests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from istioctl.errors import CommandError
from istioctl.explain import log_line
from istioctl.explain.log_line import Past
from istioctl.testing.seen import Arrived, Ending, Headers, Seen
from istiod.config.origin import Origin
from istiod.explain import rbac

TELLS: Final = frozenset({"VirtualService"})
"""Kinds that an access log tells as the rule of a request."""
TAG: Final = "istioctl-test/"
"""How the user agent of a test's requests begins, by which they are told apart in access logs."""
_REFUSALS: Final = {403: "RBAC: access denied", 401: "Jwt"}
_POLICY: Final = re.compile(r"rbac_access_denied_matched_policy\[(.+)\]$")
_NOT_FOUND, _UNAVAILABLE = 404, 503
_ALL: Final = 100.0


def logged(texts: Iterable[str]) -> dict[str, list[Past]]:
    """The lines of access logs by the user agent of their requests."""
    found: dict[str, list[Past]] = {}
    for text in texts:
        for line in text.splitlines():
            if TAG in line:
                try:
                    past = log_line.parsed(line)
                except CommandError:  # half a line, or not an access log's
                    continue
                found.setdefault(past.of("user_agent"), []).append(past)
    return found


def seen(replies: Sequence[Mapping[str, Any]], past: Sequence[Past] | None) -> Seen:
    """What a test's replies are. ``past`` is what was logged of them; None: nothing can be."""
    groups: dict[tuple[object, ...], list[Ending]] = {}
    for one in replies:
        ending = _ending(one, past)
        key = (ending.status, ending.workload, ending.closed, ending.denied, ending.location, ending.text)
        groups.setdefault(key, []).append(ending)
    shares = [(several[0], _ALL * len(several) / len(replies)) for several in groups.values()]
    took = sum(one["seconds"] for one in replies) / len(replies)
    endings = tuple(replace(one, share=share) for one, share in sorted(shares, key=lambda pair: -pair[1]))
    return Seen(endings=endings, sample=len(replies), tells=TELLS if past else frozenset(), seconds=took)


def _ending(one: Mapping[str, Any], past: Sequence[Past] | None) -> Ending:
    echo, status, headers = one["echo"], one["status"], one["headers"]
    closed = bool(one["failure"])
    by = tuple(_policies(past or ()))
    return Ending(
        share=0.0,
        text=_text(one),
        status=status,
        workload=echo["workload"] if echo else "",
        closed=closed,
        denied=_denied(one, past),
        by=by or None,
        no_route=status == _NOT_FOUND and not echo and not one["body"],
        location=headers.get("location", ""),
        arrived=_arrived(echo) if echo else None,
        returned=Headers(values=headers, certain=True),
        rules=tuple(dict.fromkeys(each.origin for each in past or () if each.origin is not None)),
    )


def _text(one: Mapping[str, Any]) -> str:
    if one["failure"]:
        return f"connection closed: {one['failure']}"
    if one["echo"]:
        return f"reaches the app of {one['echo']['workload']}"
    body = str(one["body"]).partition("\n")[0][:80]
    return f"answered {one['status']} by a proxy" + (f": {body}" if body else "")


def _denied(one: Mapping[str, Any], past: Sequence[Past] | None) -> bool | None:
    """Whether a policy refused it; None where a connection that ends looks the same for other reasons."""
    if one["echo"]:
        return False
    if one["failure"] or one["status"] == _UNAVAILABLE:
        return None
    said = _REFUSALS.get(one["status"], "")
    details = [each.of("response_code_details") for each in past or ()]
    return bool(said and str(one["body"]).startswith(said)) or any("_access_denied" in each for each in details)


def _policies(past: Iterable[Past]) -> Iterator[Origin]:
    for each in past:
        found = _POLICY.search(each.of("response_code_details"))
        origin = rbac.origin(found[1]) if found is not None else None
        if origin is not None:
            yield origin


def _arrived(echo: Mapping[str, Any]) -> Arrived:
    headers = echo.get("headers", {})
    return Arrived(
        host=headers.get("host", ""), path=echo.get("path", ""), headers=Headers(values=headers, certain=True)
    )

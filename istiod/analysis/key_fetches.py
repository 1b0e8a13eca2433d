"""Token keys: istiod fetches them from addresses that users write, so that some addresses should be closed to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from istiod.analysis import catalogue, fields, kinds, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection

_VARIABLE: Final = "BLOCKED_CIDRS_IN_JWKS_URIS"
_SHOWN: Final = 5


def _run(known: Collection) -> Iterator[Message]:
    rules = [each.full_name for each in known.of(kinds.REQUEST_AUTHENTICATION)]
    if not rules:
        return
    shown = ", ".join(rules[:_SHOWN])
    if len(rules) > _SHOWN:
        shown += f", and {len(rules) - _SHOWN} more"
    for deployment in known.of(kinds.DEPLOYMENT):
        if deployment.labels.get("app") != "istiod":
            continue
        given = (
            each
            for container in fields.records(deployment.spec, "template", "spec", "containers")
            for each in fields.records(container, "env")
        )
        if not any(fields.text(each, "name") == _VARIABLE and fields.text(each, "value") for each in given):
            yield message.make(catalogue.UNRESTRICTED_KEY_FETCH, deployment, len(rules), shown)


ANALYZER: Final = Analyzer(
    name="authn.BlockedCIDRsAnalyzer",
    description=f"Checks that {_VARIABLE} is configured on istiod when RequestAuthentication resources exist",
    run=_run,
)

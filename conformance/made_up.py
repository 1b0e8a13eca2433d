"""Secrets that a case names and does not hold: Istio's generator does not look into them, ours needs them.

They are made up here, so that the rest of a Gateway or DestinationRule can be compared. One certificate serves for all:
who it is for is not what the cases ask.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from istiod.ca import authority


def secrets(text: str, namespace: str) -> str:
    """The Secrets that the objects of a text name and that it does not hold.

    Those of Gateways are for a router in ``namespace`` ("": none), those of DestinationRules for workloads beside them.
    """
    documents = [one for one in yaml.safe_load_all(text) if isinstance(one, dict)]
    held = {one["metadata"]["name"] for one in documents if one.get("kind") == "Secret"}
    wanted = {(name, namespace) for one in documents if one.get("kind") == "Gateway" for name in _named(one)}
    wanted |= {
        (str(_policy(one).get("credentialName")), one["metadata"].get("namespace", "default"))
        for one in documents
        if one.get("kind") == "DestinationRule" and one["spec"].get("workloadSelector") and _policy(one)
    }
    made = (_secret(name, home) for name, home in sorted(wanted) if home and name not in held and "://" not in name)
    return yaml.safe_dump_all(list(made))


def _policy(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """The TLS settings of a DestinationRule that name a Secret."""
    tls = (rule["spec"].get("trafficPolicy") or {}).get("tls") or {}
    return tls if tls.get("credentialName") else {}


def _named(gateway: Mapping[str, Any]) -> Iterator[str]:
    for server in gateway["spec"].get("servers") or ():
        tls = server.get("tls") or {}
        yield from (name for name in (tls.get("credentialName"), *(tls.get("credentialNames") or ())) if name)


def _secret(name: str, namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace},
        "data": {key: base64.b64encode(value).decode() for key, value in _certificate().items()},
    }


@cache
def _certificate() -> Mapping[str, bytes]:
    made = authority.self_signed("case.example", dt.datetime.now(dt.UTC))
    return {"tls.crt": made.certificate, "tls.key": made.key, "ca.crt": made.roots}

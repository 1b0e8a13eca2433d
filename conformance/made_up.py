"""Secrets that a case names and does not hold: Istio's generator does not look into them, ours leaves such servers out.

They are made up here, so that the rest of the Gateway can be compared. One certificate for all: who it is for is not
what the cases ask.
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
    """The Secrets that the Gateways of a text name and that it does not hold, for a router in ``namespace``."""
    documents = [one for one in yaml.safe_load_all(text) if isinstance(one, dict)]
    held = {one["metadata"]["name"] for one in documents if one.get("kind") == "Secret"}
    wanted = {name for one in documents if one.get("kind") == "Gateway" for name in _named(one) if "://" not in name}
    return yaml.safe_dump_all([_secret(name, namespace) for name in sorted(wanted - held)])


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

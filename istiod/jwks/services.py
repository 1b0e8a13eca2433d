"""Which names are services of the mesh, and their addresses: from these keys may come although they are private."""

from __future__ import annotations

from typing import Final

from crds import core
from crds.key import ConfigKey
from istiod.config.store import ConfigStore

_API_SERVER: Final = ("default", "kubernetes")
_NOBODY: Final = frozenset({"", "None"})
_LEAST: Final = 2


def addresses(store: ConfigStore, host: str, dns_domain: str) -> frozenset[str]:
    """The cluster addresses of the Service that a name means, as pods write it (``name.namespace[.svc[.domain]]``).

    The API server is none: what it answers to istiod, others must not learn. A headless Service has none.
    """
    name, *rest = host.rstrip(".").split(".", _LEAST)
    if len(rest) < 1 or ".".join(rest[1:]) not in ("", "svc", f"svc.{dns_domain}"):
        return frozenset()
    found = store.get(ConfigKey("", "Service", rest[0], name))
    if not isinstance(found, core.Service) or (rest[0], name) == _API_SERVER:
        return frozenset()
    return frozenset({found.spec.cluster_ip, *found.spec.cluster_ips}) - _NOBODY

"""Users and groups on OpenShift, which gives each namespace a range of its own (features A15, A27). Pure.

Source: OpenShift documentation, annotations openshift.io/sa.scc.uid-range and openshift.io/sa.scc.supplemental-groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from webhook.decision import part
from webhook.settings import Json
from wire import names

_USERS: Final = "openshift.io/sa.scc.uid-range"
_GROUPS: Final = "openshift.io/sa.scc.supplemental-groups"
_BLOCK: Final = re.compile(r"([0-9]{1,10})([/-])([0-9]{1,10})")


def ids(annotations: Mapping[str, str]) -> tuple[int, int]:
    """(user, group) of proxies in a namespace: the last of its ranges, which apps do not get; 1337 without ranges."""
    user = _last(annotations.get(_USERS, ""))
    group = _last((annotations.get(_GROUPS) or annotations.get(_USERS, "")).partition(",")[0])
    return user or names.PROXY_UID, group or names.PROXY_UID


def without_own_user(proxy: Mapping[str, object], apps: Iterable[Mapping[str, object]]) -> Json:
    """A user's container istio-proxy without the user that OpenShift gave all containers of the pod alike.

    Traffic of a proxy and of an app with one user could not be told apart. A user that a person chose stays.
    """
    said = [part(each, "securityContext").get("runAsUser") for each in apps]
    security = part(proxy, "securityContext")
    if security.get("runAsUser") is None or security["runAsUser"] not in said:
        return dict(proxy)
    kept = {key: value for key, value in security.items() if key not in {"runAsUser", "runAsGroup"}}
    return {**proxy, "securityContext": kept}


def _last(block: str) -> int:
    """The last number of START/SIZE or FIRST-LAST; 0 where it is neither."""
    found = _BLOCK.fullmatch(block.strip())
    if found is None:
        return 0
    first, second = int(found[1]), int(found[3])
    return first + second - 1 if found[2] == "/" else second

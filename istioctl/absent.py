"""Commands of Istio's istioctl that are not here: what to do in their place, rather than a list of all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_HELM: Final = "the charts are installed with helm (docs/install.md)"
_ONE_CLUSTER: Final = "a mesh is one cluster here"
_NO_AMBIENT: Final = "there is no ambient mode here, only sidecars and gateways"
_INJECTED: Final = "pods are injected by their namespace's label, or files by 'istioctl kube-inject'"
_TOP: Final[Mapping[str, str]] = {
    "create-remote-secret": _ONE_CLUSTER,
    "install": _HELM,
    "manifest": "'helm template charts/istiod' writes what would be installed",
    "operator": _HELM,
    "profile": "profiles are values of the charts: --set profile=demo (docs/install.md)",
    "remote-clusters": _ONE_CLUSTER,
    "uninstall": "the charts are uninstalled with helm (docs/install.md)",
    "upgrade": "the charts are upgraded with helm (docs/install.md)",
    "verify-install": "'helm status' and 'istioctl proxy-status' say how it is",
    "waypoint": _NO_AMBIENT,
    "ztunnel-config": _NO_AMBIENT,
}
_TRIED: Final[Mapping[str, str]] = {
    "add-to-mesh": _INJECTED,
    "precheck": "'istioctl analyze' says what is wrong in a cluster",
    "remove-from-mesh": _INJECTED,
    "workload": "a machine's WorkloadEntry is written by hand (docs/networks.md)",
    "waypoint": _NO_AMBIENT,
    "ztunnel-config": _NO_AMBIENT,
    "zc": _NO_AMBIENT,
}
_VALUED: Final = ("-c", "--kubeconfig", "--context", "-n", "--namespace", "-i", "--istioNamespace")
"""Flags before a command whose value is the next word (options.shared)."""
_GROUPS: Final = ("x", "exp", "experimental")


def advice(words: Sequence[str]) -> str:
    """What to tell somebody who asks for such a command; "" of any other."""
    before = ("", *words)
    bare = (word for word, last in zip(words, before, strict=False) if word[:1] != "-" and last not in _VALUED)
    first, second = (*bare, "", "")[:2]
    name, known = (second, _TRIED) if first in _GROUPS else (first, _TOP)
    return f"there is no command '{name}': {known[name]}" if name in known else ""

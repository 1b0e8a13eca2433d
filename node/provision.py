"""What pods may know: addresses, the machine, ConfigMaps, Secrets, their token and the CA's root certificate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from crds.key import ConfigKey
from node import objects, world
from node.credentials import Credentials
from node.network import NODE_ADDRESS
from node.objects import Raw
from node.podspec import Facts

_ROOTS = "istio-ca-root-cert"


class Provision:
    """Gives each pod its facts, from the objects as they are at that moment."""

    def __init__(self, applied: Mapping[ConfigKey, Raw], credentials: Credentials) -> None:
        """Look things up in ``applied``, which changes."""
        self._applied = applied
        self._credentials = credentials

    def facts(self, pod: Raw, address: str) -> Facts:
        """What this pod may know, placed at this address."""
        key = objects.key_of(pod)
        spec: Mapping[str, Any] = pod.get("spec") or {}
        account = str(spec.get("serviceAccountName") or "default")
        roots = {_ROOTS: {"root-cert.pem": self._credentials.root}}
        return Facts(
            address=address,
            host_address=NODE_ADDRESS,
            node=str(spec.get("nodeName") or world.NODE_NAME),
            cpus=os.cpu_count() or 1,
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            config_maps=roots | self._data("ConfigMap", key.namespace),
            secrets=self._data("Secret", key.namespace),
            token=self._credentials.token(key.namespace, account, key.name),
        )

    def _data(self, kind: str, space: str) -> dict[str, dict[str, str]]:
        """The data of a namespace's ConfigMaps or Secrets by name."""
        return {
            key.name: objects.data_of(raw)
            for key, raw in self._applied.items()
            if key.kind == kind and key.namespace == space
        }

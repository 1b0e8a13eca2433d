"""Reading and creating single Secrets by name: the CA's. Which are read, and what they mean, is istiod.cluster's."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from istiod.config.kubernetes import CONFLICT, NOT_FOUND, ApiError
from istiod.kube.client import KubernetesClient

_PATH: Final = "/api/v1/namespaces/{}/secrets"


async def read(client: KubernetesClient, namespace: str, name: str) -> Mapping[str, bytes] | None:
    """What a Secret holds, or None where there is none.

    Raises:
        ApiError: the API server refused or failed, or what it gave is no Secret.
    """
    try:
        found = await client.request("get", f"{_PATH.format(namespace)}/{name}")
    except ApiError as error:
        if error.status == NOT_FOUND:
            return None
        raise
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in (found.get("data") or {}).items()}
    except (binascii.Error, ValueError, TypeError, AttributeError) as error:
        raise ApiError(f"Secret {namespace}/{name} is no Secret: {error}") from error


async def create(client: KubernetesClient, namespace: str, name: str, kind: str, data: Mapping[str, bytes]) -> bool:
    """Make a Secret of this type; False where there is one already, which stays as it is.

    Raises:
        ApiError: the API server refused or failed.
    """
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {"name": name, "namespace": namespace},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    try:
        await client.request("post", _PATH.format(namespace), body)
    except ApiError as error:
        if error.status == CONFLICT:
            return False
        raise
    return True

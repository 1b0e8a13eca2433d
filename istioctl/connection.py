"""A client of the API server that a kubeconfig names, or of the pod's own, with the namespace of the context.

Imported only by commands that need a cluster: see ``cluster``.
"""

from __future__ import annotations

from typing import Any, Final

from kubernetes import config
from kubernetes.client.api_client import ApiClient
from kubernetes.config.config_exception import ConfigException

_CONFIG: Final[Any] = config  # its functions are not typed


def connected(kubeconfig: str, context: str) -> tuple[ApiClient, str]:
    """A client, and the namespace that the context names."""
    try:
        contexts, active = _CONFIG.list_kube_config_contexts(kubeconfig or None)
    except ConfigException:
        if kubeconfig or context:
            raise
        try:
            _CONFIG.load_incluster_config()
        except ConfigException as error:
            raise ConfigException(
                "there is no kubeconfig (--kubeconfig, ~/.kube/config), and this is no pod"
            ) from error
        return ApiClient(), "default"
    chosen = next((each for each in contexts if each["name"] == context), None) if context else active
    if chosen is None:
        raise ConfigException(f'context "{context}" does not exist')
    made: ApiClient = _CONFIG.new_client_from_config(kubeconfig or None, context or None)
    return made, chosen["context"].get("namespace") or "default"

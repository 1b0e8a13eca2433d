"""ProxyConfig objects: settings that pods get when they are injected (features row K5).

Source: istio.networking.v1beta1 proxy_config.proto. The mesh's own ProxyConfig, which has far more fields, is
crds.proxy_config's; what these objects come to for a pod is webhook.proxy_configs'.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from crds.meta import Ignored, Int32, Model, Object, WorkloadSelector
from crds.proxy_config import ProxyImage


class ProxyConfigSpec(Model):
    """Settings of all pods of a namespace, or of those that ``selector`` selects; of all, in the root namespace."""

    selector: WorkloadSelector | None = None
    concurrency: Int32 | None = None
    environment_variables: Mapping[str, str] = Field(default_factory=dict)
    image: ProxyImage | None = None


class ProxyConfig(Object):
    """networking.istio.io ProxyConfig."""

    spec: ProxyConfigSpec = ProxyConfigSpec()
    status: Ignored = None

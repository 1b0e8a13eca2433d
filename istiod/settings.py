"""What the operator decided at start: read once from flags and environment by __main__, frozen, passed down."""

from __future__ import annotations

from dataclasses import dataclass, field

from crds.key import ConfigKey
from istiod.features import DEFAULTS, Features
from wire import names

DEFAULT_REVISION = "default"
DEFAULT_CA_DIR = "./etc/cacerts"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """What a control plane in Kubernetes is told: who it is, and which part of the cluster is its own."""

    kubeconfig: str = ""
    """A file; "" is the pod's own service account."""
    pod_name: str = "istiod"
    namespace: str = names.ROOT_NAMESPACE
    """The namespace that it runs in, which is the mesh's root namespace."""
    revision: str = DEFAULT_REVISION
    injection_webhook: str = ""
    """Name of the MutatingWebhookConfiguration; "" is Istio's name for the revision."""
    validation_webhook: str = ""
    custom_host: str = ""
    """More names for the serving certificate, separated by commas (ISTIOD_CUSTOM_HOST)."""
    ca_dir: str = DEFAULT_CA_DIR
    """Where the Secret ``cacerts`` may be mounted (ROOT_CA_DIR)."""
    shared: str = ""
    """Name of a ConfigMap with settings that lie below the mesh's own (SHARED_MESH_CONFIG)."""

    @property
    def mesh_config(self) -> ConfigKey:
        """The ConfigMap with the mesh's settings."""
        return ConfigKey("", "ConfigMap", self.namespace, self.named("istio"))

    @property
    def shared_mesh_config(self) -> ConfigKey | None:
        """The ConfigMap with the shared settings; None where there is none."""
        own = self.mesh_config
        return own._replace(name=self.shared) if self.shared not in ("", own.name) else None

    def named(self, name: str) -> str:
        """An object's name for this revision: ``istio``, or ``istio-<rev>``."""
        return name if self.revision in ("", DEFAULT_REVISION) else f"{name}-{self.revision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that is not an object in the mesh. An address is HOST:PORT; "" leaves that server off.

    Without ``config_dirs`` a Kubernetes API is the source. ``ca_dir`` keeps the root's key and certificate;
    ``token_key`` is the public key (PEM file) that signs the tokens of a mesh without Kubernetes.
    """

    config_dirs: tuple[str, ...]
    grpc_address: str = ""
    """Plaintext xDS (15010): only on loopback, only when asked."""
    mtls_address: str = ""
    """Another address (15011) of the same server."""
    ca_address: str = ""
    """xDS and the certificate service over TLS (15012): who has no client certificate proves itself with a token."""
    monitoring_address: str = ""
    """Readiness and debug pages over HTTP (15014)."""
    http_address: str = ""
    """The same once more, where Istio's probes look (8080)."""
    https_address: str = ""
    """Webhooks (15017)."""
    ca_dir: str = ""
    token_key: str = ""
    state_dir: str = ""
    """Where is kept what proxies refuse, without Kubernetes; "" is in memory only."""
    trust_domain: str = names.DEFAULT_TRUST_DOMAIN
    features: Features = DEFAULTS
    cluster: ClusterSettings = field(default_factory=ClusterSettings)

    @property
    def kubernetes(self) -> bool:
        """Whether a Kubernetes API is the source."""
        return not self.config_dirs

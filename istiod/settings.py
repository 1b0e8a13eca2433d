"""What the operator decided at start: read once from flags and environment by __main__, frozen, passed down."""

from __future__ import annotations

from dataclasses import dataclass

from istiod.features import DEFAULTS, Features
from wire import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that is not an object in the mesh. An address is HOST:PORT; "" leaves that server off.

    ``ca_dir`` keeps the root's key and certificate; ``token_key`` is the public key (PEM file) that signs the tokens of
    a mesh without Kubernetes.
    """

    config_dirs: tuple[str, ...]
    grpc_address: str = ""
    """Plaintext xDS (15010): only on loopback, only when asked."""
    mtls_address: str = ""
    """xDS over mTLS (15011)."""
    ca_address: str = ""
    """Certificate service over TLS with a token (15012)."""
    monitoring_address: str = ""
    """Readiness and debug pages over HTTP (15014)."""
    ca_dir: str = ""
    token_key: str = ""
    trust_domain: str = names.DEFAULT_TRUST_DOMAIN
    features: Features = DEFAULTS

"""Gateway: ports, hosts and certificates at the edge (features rows E1-E15).

Source: istio.networking gateway.proto, all versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from crds.meta import Bool, Ignored, Model, Object, UInt32

TLSProtocol = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class Port(Model):
    """A port that a gateway listens on; ``target_port`` is deprecated."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class TLSCertificate(Model):
    """A pair of files."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


class ServerTLSSettings(Model):
    """TLS at the edge (E5-E10)."""

    https_redirect: Bool = False
    mode: Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"] = (
        "PASSTHROUGH"
    )
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    tls_certificates: tuple[TLSCertificate, ...] = ()
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TLSProtocol = "TLS_AUTO"
    max_protocol_version: TLSProtocol = "TLS_AUTO"
    cipher_suites: tuple[str, ...] = ()
    insecure_skip_verify: Bool | None = None


class Server(Model):
    """One port with its hosts (``host``, ``namespace/host``) (E2-E4)."""

    name: str = ""
    port: Port | None = None
    bind: str = ""
    hosts: tuple[str, ...] = ()
    tls: ServerTLSSettings | None = None
    default_endpoint: str = ""


class GatewaySpec(Model):
    """Servers, and the pods that serve them (E1)."""

    servers: tuple[Server, ...] = ()
    selector: Mapping[str, str] = Field(default_factory=dict)


class Gateway(Object):
    """networking.istio.io Gateway."""

    spec: GatewaySpec = GatewaySpec()
    status: Ignored = None

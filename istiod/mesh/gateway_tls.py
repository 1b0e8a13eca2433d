"""What a Gateway server does with TLS: end it, or hand it on by server name (features rows E6-E10).

Which server names a chain has is gateway_chains', where Secrets come from credentials'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from crds import gateway, tls_names
from istiod.mesh.scope import DownstreamTls

_HTTP_ALPN = ("h2", "http/1.1")
_MESH_TCP_ALPN = ("istio-peer-exchange", "h2", "http/1.1")
_AUTO = "TLS_AUTO"


class Handling(Enum):
    """What happens to TLS that arrives."""

    TERMINATE = "TERMINATE"
    PASSTHROUGH = "PASSTHROUGH"
    AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """TLS of one server; ``context`` is set where the gateway ends it."""

    handling: Handling
    context: DownstreamTls | None = None


def read(said: gateway.ServerTLSSettings, *, http: bool, secrets: bool = True) -> ServerTls:
    """TLS as a server has it. ``http``: what is inside is HTTP; ``secrets``: the proxy may have Secrets."""
    if said.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
        return ServerTls(handling=Handling(said.mode))
    workload = said.mode == "ISTIO_MUTUAL"
    files = [(pair.server_certificate, pair.private_key) for pair in said.tls_certificates]
    credentials = said.credential_names or ((said.credential_name,) if said.credential_name else ())
    context = DownstreamTls(
        workload=workload,
        mutual=workload or said.mode in ("MUTUAL", "OPTIONAL_MUTUAL"),
        optional=said.mode == "OPTIONAL_MUTUAL",
        alpn=_MESH_TCP_ALPN if workload and not http else _HTTP_ALPN,
        credential_name=next(iter(credentials), ""),
        more_credentials=tuple(credentials[1:]),
        ca_credential_name=said.ca_cert_credential_name if secrets and not workload else "",
        certificate_file=said.server_certificate or (files[0][0] if files else ""),
        key_file=said.private_key or (files[0][1] if files else ""),
        more_files=tuple(files if said.server_certificate else files[1:]),
        ca_file=said.ca_certificates,
        crl_file="" if workload or credentials else said.ca_crl,
        subject_alt_names=said.subject_alt_names,
        spki=said.verify_certificate_spki,
        hashes=said.verify_certificate_hash,
        min_version="" if said.min_protocol_version == _AUTO else said.min_protocol_version,
        max_version="" if said.max_protocol_version == _AUTO else said.max_protocol_version,
        cipher_suites=tls_names.known(said.cipher_suites, tls_names.CIPHER_SUITES),
        gateway=True,
        accept_untrusted=bool(said.insecure_skip_verify) and said.mode in ("MUTUAL", "OPTIONAL_MUTUAL"),
    )
    return ServerTls(handling=Handling.TERMINATE, context=context)


_OF_CLIENTS = (
    "ca_certificates",
    "ca_crl",
    "ca_cert_credential_name",
    "subject_alt_names",
    "verify_certificate_spki",
    "verify_certificate_hash",
    "insecure_skip_verify",
)
_OF_TERMINATION = (
    *("server_certificate", "private_key", "tls_certificates", "credential_name", "credential_names"),
    *_OF_CLIENTS,
    *("min_protocol_version", "max_protocol_version", "cipher_suites"),
)
_MESHS_OWN = ("ca_crl", "ca_cert_credential_name", "tls_certificates", "insecure_skip_verify")
_UNUSED = {
    "PASSTHROUGH": _OF_TERMINATION,
    "AUTO_PASSTHROUGH": _OF_TERMINATION,
    "SIMPLE": _OF_CLIENTS,
    "ISTIO_MUTUAL": _MESHS_OWN,
}


def without_effect(
    said: gateway.ServerTLSSettings, *, plaintext: bool = False, secrets: bool = True
) -> Iterator[tuple[str, str]]:
    """Fields of a server's TLS that are read and have no effect, and why.

    ``plaintext``: its protocol is HTTP. ``secrets``: the proxy may have Secrets; where it may not, what names one of
    clients' authorities is reported as of no use at all (crds.unhonoured).
    """
    unused: dict[str, str] = {}
    if plaintext:
        unused |= dict.fromkeys(("mode", *_OF_TERMINATION), "on a port without TLS")
    else:
        unused |= dict.fromkeys(_UNUSED.get(said.mode, ()), f"with mode {said.mode}")
        unused.setdefault("https_redirect", "on a port with TLS")
        unused = {**dict.fromkeys(_beside_secrets(said, secrets=secrets), "with a credential"), **unused}
    if not secrets:
        unused.pop("ca_cert_credential_name", None)
    for name, why in unused.items():
        field = gateway.ServerTLSSettings.model_fields[name]
        if getattr(said, name) not in (field.default, None):
            yield field.alias or name, f"has no effect {why}"
    for index, suite in enumerate(() if "cipher_suites" in unused else said.cipher_suites):
        if suite not in tls_names.CIPHER_SUITES:
            yield f"cipherSuites[{index}]", f"Envoy knows no {suite!r}: it is left out"


def _beside_secrets(said: gateway.ServerTLSSettings, *, secrets: bool) -> tuple[str, ...]:
    """Files that are not used since a Secret takes their place."""
    if said.credential_name or said.credential_names:
        return ("ca_certificates", "ca_crl")
    return ("ca_certificates",) if secrets and said.ca_cert_credential_name else ()

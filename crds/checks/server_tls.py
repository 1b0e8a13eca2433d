"""TLS at gateways and Sidecar ingress: which certificates each mode needs (features rows E6-E10)."""

from __future__ import annotations

from crds.checks import values
from crds.checks.findings import Findings
from crds.checks.patterns import repeated
from crds.gateway import ServerTLSSettings, TLSCertificate

_CLIENTS_VERIFIED = frozenset({"MUTUAL", "OPTIONAL_MUTUAL"})
_MOST_CERTIFICATES = 2  # RSA and ECDSA
_OWN_CERTIFICATE = frozenset({"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"})


def check(found: Findings, field: str, tls: ServerTLSSettings, *, secrets: bool) -> None:
    """Certificates against the mode. ``secrets``: the proxies may have Secrets."""
    if tls.mode == "ISTIO_MUTUAL":
        _mesh(found, field, tls)
    elif tls.mode in _OWN_CERTIFICATE:
        _own(found, field, tls, secrets=secrets)
    elif tls.server_certificate or tls.private_key or tls.credential_name or tls.ca_certificates:
        found.warning(field, f"{tls.mode} uses no certificates")
    _order(found, field, tls)
    for index, text in enumerate(tls.verify_certificate_spki):
        found.check(f"{field}.verifyCertificateSpki[{index}]", values.spki(text))
    for index, text in enumerate(tls.verify_certificate_hash):
        found.check(f"{field}.verifyCertificateHash[{index}]", values.fingerprint(text))


def _order(found: Findings, field: str, tls: ServerTLSSettings) -> None:
    automatic = "TLS_AUTO" in {tls.min_protocol_version, tls.max_protocol_version}
    if not automatic and tls.min_protocol_version > tls.max_protocol_version:
        found.error(f"{field}.minProtocolVersion", "is above maxProtocolVersion")
    for index, suite in repeated(tls.cipher_suites):
        found.warning(f"{field}.cipherSuites[{index}]", f"{suite} stands twice")


def _mesh(found: Findings, field: str, tls: ServerTLSSettings) -> None:
    given = {
        "serverCertificate": tls.server_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
        "tlsCertificates": tls.tls_certificates,
    }
    for name, value in given.items():
        if value:
            found.error(f"{field}.{name}", "ISTIO_MUTUAL uses the mesh's own certificates")


def _own(found: Findings, field: str, tls: ServerTLSSettings, *, secrets: bool) -> None:
    sources = {
        "credentialName": bool(tls.credential_name),
        "credentialNames": bool(tls.credential_names),
        "serverCertificate": bool(tls.server_certificate and tls.private_key),
        "tlsCertificates": bool(tls.tls_certificates),
    }
    given = [name for name, is_given in sources.items() if is_given]
    if len(given) > 1:
        found.error(f"{field}.{given[1]}", f"excludes {given[0]}")
    if tls.ca_crl and tls.mode == "SIMPLE":
        found.error(f"{field}.caCrl", "SIMPLE verifies no client")
    if tls.credential_name or tls.credential_names:
        return
    verifies = tls.mode in _CLIENTS_VERIFIED
    if len(tls.tls_certificates) > _MOST_CERTIFICATES:
        found.error(f"{field}.tlsCertificates", f"more than {_MOST_CERTIFICATES} certificates")
    for index, pair in enumerate(tls.tls_certificates):
        _pair(found, f"{field}.tlsCertificates[{index}]", pair)
    if not tls.tls_certificates:
        _pair(found, field, tls)
    # Istio wants the file even where a Secret is named, which it then does not use: here it takes the file's place
    if verifies and not (tls.ca_certificates or (secrets and tls.ca_cert_credential_name)):
        found.missing(f"{field}.caCertificates")


def _pair(found: Findings, field: str, pair: ServerTLSSettings | TLSCertificate) -> None:
    for name, value in (("serverCertificate", pair.server_certificate), ("privateKey", pair.private_key)):
        if not value:
            found.missing(f"{field}.{name}")

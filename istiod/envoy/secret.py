"""SDS secrets that we serve ourselves: credentials of gateways (features row E7).

Certificates of workloads are the agent's.
"""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2

from istiod.config import resource
from istiod.config.resource import Resource
from istiod.envoy import wellknown
from istiod.mesh.scope import Credential
from wire import names


def compile(credential: Credential) -> Resource:  # noqa: A001 (read as secret.compile)
    """The resource of one credential."""
    return resource.make(credential.name, names.SECRET, wellknown.encode(message(credential)))


def message(credential: Credential) -> secret_pb2.Secret:
    """One credential as a message: a certificate with its key, or what others are verified by."""
    if credential.certificate:
        return secret_pb2.Secret(
            name=credential.name,
            tls_certificate=common_pb2.TlsCertificate(
                certificate_chain=_inline(credential.certificate), private_key=_inline(credential.key)
            ),
        )
    return secret_pb2.Secret(
        name=credential.name,
        validation_context=common_pb2.CertificateValidationContext(
            trusted_ca=_inline(credential.root), crl=_inline(credential.crl) if credential.crl else None
        ),
    )


def _inline(value: bytes) -> base_pb2.DataSource:
    return base_pb2.DataSource(inline_bytes=value)

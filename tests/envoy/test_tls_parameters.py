"""TLS of listeners where the mesh, or a server that takes strangers, says more than usual."""

from __future__ import annotations

from dataclasses import replace

import pytest

from istiod.mesh.policy import TlsDefaults
from istiod.mesh.scope import DownstreamTls
from istiod.mesh.settings import MeshSettings
from tests.envoy import made
from tests.envoy.test_listener import context


@pytest.mark.parametrize("workload", [True, False])
def test_the_mesh_may_say_which_tls_a_gateway_takes_and_a_server_otherwise(*, workload: bool) -> None:
    defaults = TlsDefaults(min_version="TLSV1_2", curves=("P-256",), cipher_suites=("AES128-SHA",))
    settings = MeshSettings(tls_defaults=defaults)
    tls = DownstreamTls(workload=workload, mutual=False, alpn=(), gateway=True)
    found = made.shown(context(tls, settings).common_tls_context.tls_params)
    assert found == {
        "tls_minimum_protocol_version": "TLSv1_2",
        "cipher_suites": ["AES128-SHA"],
        "ecdh_curves": ["P-256"],
    }
    own = replace(tls, min_version="TLSV1_3", cipher_suites=("AES256-SHA",))
    found = made.shown(context(own, settings).common_tls_context.tls_params)
    assert found["tls_minimum_protocol_version"] == "TLSv1_3"
    assert found["cipher_suites"] == ["AES256-SHA"]


def test_the_mesh_may_choose_the_ciphers_of_mesh_mtls() -> None:
    tls = DownstreamTls(workload=True, mutual=True, alpn=())
    found = context(tls, MeshSettings(mesh_cipher_suites=("AES128-GCM-SHA256",))).common_tls_context.tls_params
    assert list(found.cipher_suites) == ["AES128-GCM-SHA256"]


@pytest.mark.parametrize(("accepted", "said"), [(True, "ACCEPT_UNTRUSTED"), (False, None)])
def test_a_gateway_may_take_clients_that_nobody_vouches_for(*, accepted: bool, said: str | None) -> None:
    tls = DownstreamTls(workload=False, mutual=True, alpn=(), credential_name="a", accept_untrusted=accepted)
    validation = context(tls).common_tls_context.combined_validation_context.default_validation_context
    assert made.shown(validation).get("trust_chain_verification") == said

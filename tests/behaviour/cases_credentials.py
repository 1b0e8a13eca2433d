"""Secrets: what gateways, sidecars and destination rules name by ``credentialName`` and its siblings."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.cases_connections import OUTSIDE
from tests.behaviour.cases_gateway import HTTPS, SAID, gateway
from tests.behaviour.cases_ingress import BESIDE, POLICY
from tests.behaviour.cases_ingress import tls as sidecar_tls
from tests.behaviour.client import Reply, trusting
from tests.behaviour.rig import Rig

CASES = Cases()
SECRETS = """
---
kind: Secret
metadata: {name: a}
type: kubernetes.io/tls
data: {tls.crt: $a_example_crt, tls.key: $a_example_key}
---
kind: Secret
metadata: {name: external}
type: kubernetes.io/tls
data: {tls.crt: $external_example_crt, tls.key: $external_example_key}
---
kind: Secret
metadata: {name: client}
type: kubernetes.io/tls
data: {tls.crt: $client_example_crt, tls.key: $client_example_key, ca.crt: $roots_crt}
---
kind: Secret
metadata: {name: trusted-cacert}
data: {ca.crt: $roots_crt}
"""
MODE = r".*tls\.mode"


async def _ask(rig: Rig, certificate: str = "", name: str = "a.example", port: str = "gwtls") -> Reply:
    own = (rig.path(f"{certificate}.pem"), rig.path(f"{certificate}.key")) if certificate else ("", "")
    return await rig.ask(port=port, host=name, tls=trusting(rig.path("roots.pem"), *own))


@CASES(gateway(f"{{{HTTPS}, tls: {{mode: SIMPLE, credentialName: a}}}}") + SECRETS, *SAID)
async def a_gateways_certificate_of_a_secret(rig: Rig) -> None:
    back = await _ask(rig)
    assert (back.body, back.certificate) == ("shop-1", ("a.example",))


@CASES(gateway(f"{{{HTTPS}, tls: {{mode: SIMPLE, credentialNames: [a, external]}}}}") + SECRETS, *SAID, MODE)
async def a_gateways_certificates_of_secrets(rig: Rig) -> None:
    assert (await _ask(rig)).certificate == ("a.example",)
    assert "external.example" in (await _ask(rig, name="external.example")).certificate


@CASES(
    gateway(f"{{{HTTPS}, tls: {{mode: MUTUAL, credentialName: a, caCertCredentialName: trusted}}}}") + SECRETS,
    *SAID,
    MODE,
)
async def clients_are_verified_by_a_secret(rig: Rig) -> None:
    assert (await _ask(rig, "client.example")).body == "shop-1"
    assert (await _ask(rig)).status == 0
    assert (await _ask(rig, "stranger.example")).status == 0


FILES = "serverCertificate: $certs/a.example.pem, privateKey: $certs/a.example.key"


@CASES(
    gateway(f"{{{HTTPS}, tls: {{mode: MUTUAL, {FILES}, caCertCredentialName: trusted}}}}") + SECRETS,
    *SAID,
    r".*tls\.(mode|serverCertificate|privateKey)",
)
async def clients_are_verified_by_a_secret_beside_files(rig: Rig) -> None:
    back = await _ask(rig, "client.example")
    assert (back.body, back.certificate) == ("shop-1", ("a.example",))
    assert (await _ask(rig)).status == 0
    assert (await _ask(rig, "stranger.example")).status == 0


@CASES(
    gateway(
        f"{{{HTTPS}, tls: {{mode: MUTUAL, {FILES}, caCertificates: $certs/strangers.pem,"
        " caCertCredentialName: trusted}}"
    )
    + SECRETS,
    *SAID,
    r".*tls\.(mode|serverCertificate|privateKey|caCertificates)",
)
async def a_secret_comes_before_a_file_to_verify_clients_by(rig: Rig) -> None:
    assert (await _ask(rig, "client.example")).body == "shop-1"
    assert (await _ask(rig, "stranger.example")).status == 0


@CASES(
    gateway(f"{{{HTTPS}, tls: {{mode: MUTUAL, {FILES}, caCertificates: $certs/roots.pem, insecureSkipVerify: true}}}}"),
    *SAID,
    r".*tls\.(mode|serverCertificate|privateKey|caCertificates)",
)
async def clients_of_strangers_come_in(rig: Rig) -> None:
    assert (await _ask(rig, "stranger.example")).body == "shop-1"
    assert (await _ask(rig)).status == 0


@CASES(
    OUTSIDE
    + """
---
kind: DestinationRule
spec:
  host: external.example
  workloadSelector: {matchLabels: {app: client}}
  trafficPolicy: {tls: {mode: MUTUAL, credentialName: client, sni: external.example}}
"""
    + SECRETS,
    r"ServiceEntry.*",
    r".*(host|matchLabels|sni)",
)
async def a_clients_certificate_of_a_secret(rig: Rig) -> None:
    assert (await rig.ask(host="external.example")).status == 200
    seen = rig.servers.seen[-1].tls
    assert seen is not None
    assert "client.example" in seen.peer


@CASES(
    sidecar_tls(f"mode: MUTUAL, {FILES}, caCertificates: $certs/roots.pem, insecureSkipVerify: true"),
    *BESIDE,
    POLICY,
    r".*tls\.(mode|serverCertificate|privateKey|caCertificates)",
)
async def clients_of_strangers_come_in_at_the_sidecar(rig: Rig) -> None:
    assert (await _ask(rig, "stranger.example", port="in")).body == "local"
    assert (await _ask(rig, port="in")).status == 0


@CASES(gateway(f"{{{HTTPS}, tls: {{mode: MUTUAL, credentialName: 'sds://outside'}}}}"), *SAID)
async def keys_of_somebody_in_the_gateways_pod(rig: Rig) -> None:
    back = await _ask(rig, "client.example")
    assert (back.body, back.certificate) == ("shop-1", ("a.example",))
    assert (await _ask(rig)).status == 0
    assert (await _ask(rig, "stranger.example")).status == 0


@CASES(
    """
kind: DestinationRule
spec:
  host: external.example
  workloadSelector: {matchLabels: {app: client}}
  trafficPolicy: {tls: {mode: SIMPLE, credentialName: 'sds://outside', sni: external.example}}
"""
    + OUTSIDE,
    r"ServiceEntry.*",
    r".*(host|matchLabels|sni)",
)
async def roots_of_somebody_in_the_sidecars_pod(rig: Rig) -> None:
    assert (await rig.ask(host="external.example")).body == "shop-1"
    seen = rig.servers.seen[-1].tls
    assert seen is not None
    assert seen.sni == "external.example"


OLDER_FORM = """
---
kind: Secret
metadata: {name: a}
data: {cert: $a_example_crt, key: $a_example_key}
---
kind: Secret
metadata: {name: a-cacert}
data: {cacert: $roots_crt}
"""


@CASES(gateway(f"{{{HTTPS}, tls: {{mode: MUTUAL, credentialName: a}}}}") + OLDER_FORM, r".*")
async def secrets_may_have_the_older_form(rig: Rig) -> None:
    """Roots stand in a Secret beside the one of the certificate."""
    back = await _ask(rig, "client.example")
    assert (back.body, back.certificate) == ("shop-1", ("a.example",))
    assert (await _ask(rig)).status == 0
    assert (await _ask(rig, "stranger.example")).status == 0

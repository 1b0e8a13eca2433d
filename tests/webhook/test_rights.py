"""Rights that a proxy has only where its pod asks for them."""

from __future__ import annotations

import pytest

from tests.webhook.test_inject import injected, named, pod


@pytest.mark.parametrize(
    ("mode", "said", "rights"),
    [
        ("REDIRECT", "true", ["NET_BIND_SERVICE"]),
        ("TPROXY", "true", ["NET_ADMIN", "NET_BIND_SERVICE"]),
        ("REDIRECT", "false", None),
    ],
)
def test_a_proxy_that_may_bind_low_ports_runs_as_root_with_that_right(
    mode: str, said: str, rights: list[str] | None
) -> None:
    given = {"sidecar.istio.io/capNetBindService": said, "sidecar.istio.io/interceptionMode": mode}
    answer = injected(pod(given))
    security = named(answer, "istio-proxy")["securityContext"]
    assert security["capabilities"].get("add") == rights
    assert (security["runAsUser"], security["runAsNonRoot"]) == ((0, False) if rights else (1337, True))
    assert answer.diagnostics == ()

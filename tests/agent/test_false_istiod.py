"""Somebody else in istiod's place: neither the agent nor Envoy speaks with him (hostile-input SEC32)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from istiod.ca import authority, serving
from tests.agent import pod as support
from tests.waiting import until

pytestmark = pytest.mark.envoy


def of_another_ca(_: authority.Authority) -> serving.ServingCertificate:
    """The right name, and nobody whom the mesh trusts vouches for it."""
    stranger = authority.Authority(authority.self_signed("cluster.local", support.now()))
    return serving.ServingCertificate(stranger, support.now)


def of_another_name(ca: authority.Authority) -> serving.ServingCertificate:
    """Of the mesh's CA, for one of its workloads' servers."""
    return serving.ServingCertificate(ca, support.now, ("web.default.svc",))


FALSE = pytest.mark.parametrize("false", [of_another_ca, of_another_name], ids=lambda each: each.__name__)


@FALSE
async def test_an_agent_shows_no_token_to_a_false_ca(false: support.Certified, tmp_path: Path) -> None:
    async with support.istiod(ca=false) as control, support.pod(tmp_path, control) as pod:
        await until(lambda: f"CA 127.0.0.1:{control.ca_port}: UNAVAILABLE" in pod.log(), "it says why it has none")
        assert control.tokens == []
        assert not await pod.ready()
    said = pod.log().lower()
    assert "verif" in said or "hostname" in said or "peer" in said


@FALSE
async def test_an_envoy_takes_nothing_from_a_false_istiod(
    false: Callable[[authority.Authority], serving.ServingCertificate], tmp_path: Path
) -> None:
    async with support.istiod(xds=false) as control, support.pod(tmp_path, control) as pod:
        control.serve.set()
        counter = "fail_verify_error" if false is of_another_ca else "fail_verify_san"

        async def refused() -> bool:
            if await pod.status_code(pod.admin, "/ready") == 0:
                return False
            said = await pod.get(pod.admin, f"/stats?filter=^cluster.xds-grpc.*ssl.{counter}$")
            return int(said.body.rpartition(b":")[2] or 0) >= 2

        await until(refused, "Envoy refuses him again and again")
        assert (control.peers, control.nodes) == ([], [])
        assert not await pod.ready()
    assert len(control.tokens) == 1  # the CA was the right one

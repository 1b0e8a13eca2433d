"""The last look at the Lease: what waits to be sent when it ends is not sent (FT49, FT50)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from aiohttp import web

from istiod.kube.client import KubernetesClient
from istiod.kube.lease import Candidate, Leader
from istiod.kube.writer import Writer
from tests.kube.faults import FaultProxy

pytestmark = pytest.mark.apiserver


class Ending(Leader):
    """A Lease that is over after so many looks at it."""

    def __init__(self, client: KubernetesClient, looks: int) -> None:
        super().__init__(client, Candidate(namespace="", name="", identity=""))
        self._looks = looks

    @property
    def holds(self) -> bool:
        self._looks -= 1
        return self._looks >= 0


@pytest.mark.parametrize(
    ("looks", "sent"),
    [
        (0, 0),  # at the step
        (1, 0),  # before the first write
        (2, 0),  # when the first request has its connection
        (3, 1),  # before the second write
        (4, 1),
        (5, 2),
    ],
)
async def test_a_request_is_sent_only_while_the_lease_holds_in_the_moment_of_sending(
    proxy: FaultProxy, connect: Callable[[str], KubernetesClient], namespace: str, looks: int, sent: int
) -> None:
    seen: list[str] = []

    def refuse(request: web.Request) -> web.Response | None:
        seen.append(f"{request.method} {request.path}")
        return None

    proxy.refuse = refuse
    client = connect(proxy.kubeconfig)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    writes = [partial(client.request, "post", path, {"metadata": {"name": name}}) for name in ("a", "b")]
    writer = Writer(Ending(client, looks), lambda: writes)

    assert await writer._write()
    assert seen == [f"POST {path}"] * sent
    assert writer.problem is None
    await client.request("get", path)  # which nobody has to lead for
    assert seen[sent:] == [f"GET {path}"]

"""Calls that are told of: from an app by its sidecar, and by the other workload's sidecar, to another app."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.behaviour.rig import Rig

_OBJECTS: Final = """
---
kind: ServiceEntry
metadata: {name: next}
spec:
  hosts: [NEXT]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $in}]
---
kind: VirtualService
metadata: {name: next}
spec: {hosts: [NEXT], http: [{route: [{destination: {host: NEXT}}]}]}
---
"""


class NextWorkload:
    """The rig with another workload. ``host`` is its host, another one for each configuration.

    So no connection to a listener of an earlier one is used again.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.used = 0
        """Configurations so far."""

    @property
    def host(self) -> str:
        """The other workload's."""
        return f"next-{self.used}.example"

    async def settle(self, mesh: object, text: str) -> None:
        """Work with these mesh settings and objects, in which NEXT is the host."""
        settings = json.dumps({"kind": "MeshConfig", "spec": mesh})
        await self.rig.settle(self.rig.read(f"{text}{_OBJECTS}{settings}\n".replace("NEXT", self.host)))

    async def call(self, path: str = "/a", status: int = 200, **said: Any) -> None:
        """A call to the other workload."""
        reply = await self.rig.ask(path, host=self.host, **said)
        assert reply.status == status

"""The mesh of a folder of YAML, as a request's way through it is followed."""

from __future__ import annotations

from istioctl.offline.world import Names, Workload, World
from istiod.config.origin import Origin
from istiod.explain import held, workloads
from istiod.explain.held import Held
from istiod.explain.journey import Party, Resolved


class Files:
    """See istiod.explain.journey.Mesh."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._names = Names(world)
        self._held: dict[str, Held] = {}

    def find(self, said: str, namespace: str) -> Party:
        """See Mesh."""
        return self.party(self._names.find(said, namespace))

    def at(self, address: str) -> Party | None:
        """See Mesh."""
        found = self._world.at(address)
        return None if found is None else self.party(found)

    def held(self, party: Party) -> Held:
        """See Mesh."""
        if party.name not in self._held:
            one = self._names.find(party.name, "")
            self._held[party.name] = held.of_resources(self._world.resources(one))
        return self._held[party.name]

    def resolve(self, host: str, port: int, namespace: str) -> Resolved:
        """See Mesh."""
        return workloads.resolve(self._world.context, host, port, namespace)

    def listened(self, party: Party, port: int) -> int:
        """See Mesh."""
        return workloads.listened(self._world.context, party, port)

    def cause(self, origin: Origin) -> str:
        """See Mesh."""
        place = self._world.position(origin.key, origin.field)
        field = f" {origin.field}" if origin.field else ""
        return f"{origin.key}{field}" + (f" ({place})" if place is not None else "")

    def party(self, one: Workload) -> Party:
        """A workload as journeys know it."""
        return workloads.party(self._world.context, one.pod)

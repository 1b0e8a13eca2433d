"""The mesh of a folder of YAML, as a request's way through it is followed."""

from __future__ import annotations

from istioctl.explain import question
from istioctl.explain.journey import Party, Resolved
from istioctl.offline.world import Names, Workload, World
from istiod.config.origin import Origin
from istiod.explain import held
from istiod.explain.held import Held
from istiod.mesh.service import Service


class Files:
    """See istioctl.explain.journey.Mesh."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._names = Names(world)
        self._held: dict[str, Held] = {}

    def find(self, said: str, namespace: str) -> Party:
        """See Mesh."""
        return party(self._names.find(said, namespace))

    def at(self, address: str) -> Party | None:
        """See Mesh."""
        found = self._world.at(address)
        return None if found is None else party(found)

    def held(self, party: Party) -> Held:
        """See Mesh."""
        if party.name not in self._held:
            one = self._names.find(party.name, "")
            self._held[party.name] = held.of_resources(self._world.resources(one))
        return self._held[party.name]

    def resolve(self, host: str, port: int, namespace: str) -> Resolved:
        """See Mesh."""
        found = self._service(host, namespace)
        if found is None:
            note = f"no object defines {host}: DNS is taken to give {question.OUTSIDE}"
            return Resolved(address=question.OUTSIDE, note=note, endpoints=((question.OUTSIDE, port),))
        several = self._world.context.endpoints.of(found.host, found.namespace, port)
        endpoints = tuple((one.address, one.port) for one in several)
        addresses = [one.partition("/")[0] for one in (*found.addresses, *found.allocated)]
        if addresses:
            return Resolved(address=addresses[0], endpoints=endpoints)
        if endpoints and found.headless:
            note = f"{found.host} is headless: the first of {len(endpoints)} endpoints is taken"
            return Resolved(address=endpoints[0][0], note=note, endpoints=endpoints[:1])
        note = f"{found.host} has no address: DNS is taken to give {question.OUTSIDE}"
        return Resolved(address=question.OUTSIDE, note=note, endpoints=endpoints)

    def _service(self, host: str, namespace: str) -> Service | None:
        """As the search list of a pod's resolv.conf finds it."""
        domain = self._world.context.model.settings.dns_domain
        plain = host.rstrip(".").lower()
        for name in (plain, f"{plain}.{namespace}.svc.{domain}", f"{plain}.svc.{domain}", f"{plain}.{domain}"):
            if (found := self._world.context.model.registry.find(name, namespace)) is not None:
                return found
        return None

    def listened(self, party: Party, port: int) -> int:
        """See Mesh."""
        model, table = self._world.context.model, self._world.context.endpoints
        for service in model.registry.in_namespace(party.namespace):
            for one in table.of(service.host, service.namespace, port):
                if one.address == party.address:
                    return one.port
        return port

    def cause(self, origin: Origin) -> str:
        """See Mesh."""
        place = self._world.position(origin.key, origin.field)
        field = f" {origin.field}" if origin.field else ""
        return f"{origin.key}{field}" + (f" ({place})" if place is not None else "")


def party(one: Workload) -> Party:
    """A workload as journeys know it."""
    return Party(
        name=one.name,
        namespace=one.pod.namespace,
        address=one.address,
        identity=one.pod.identity,
        proxied=one.proxied,
        router=one.router,
    )

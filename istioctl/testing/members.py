"""Workloads and Services as tests name them, and what is behind each."""

from __future__ import annotations

from typing import Final

from istioctl.explain.offline import Files
from istioctl.offline.world import Names, Workload, World
from istioctl.testing.spec import Place
from istiod.explain import upstreams
from istiod.explain.call import Call
from istiod.explain.journey import Party

_FIELDS: Final = 4


def parts(cluster: str) -> tuple[str, str]:
    """Host and subset of a cluster's name; of one that is nobody's Service its name and ""."""
    found = cluster.split("|")
    return (found[3], found[2]) if len(found) == _FIELDS else (cluster, "")


def is_host(place: Place, host: str) -> bool:
    """Whether a host is the Service of a place: by its whole name, or NAME[.NAMESPACE] of a cluster's."""
    said = place.service
    if said == host:
        return True
    name, _, rest = host.partition(".")
    namespace, svc, _ = rest.partition(".svc.")
    if not svc:
        return False
    wanted, _, home = said.partition(".")
    home = home or place.namespace
    return wanted == name and home in ("", namespace, f"{namespace}.svc")


def name_of(one: Workload) -> str:
    """NAME.NAMESPACE of a workload."""
    return f"{one.pod.workload.name or one.pod.name}.{one.pod.namespace}"


class Members:
    """What stands behind the names of a mesh."""

    def __init__(self, world: World, names: Names, files: Files) -> None:
        self._world = world
        self._names = names
        self._files = files

    def of(self, party: Party) -> str:
        """NAME.NAMESPACE of a party's workload."""
        found = self._world.at(party.address)
        return party.name if found is None else name_of(found)

    def workloads(self, place: Place) -> frozenset[str]:
        """NAME.NAMESPACE of the workloads that a place may mean.

        Raises:
            CommandError: there is none.
        """
        first = self._names.find(place.workload, place.namespace)
        said = place.workload.rpartition("/")[2].partition(".")[0]
        alike = [one for one in self._names.every if _is(one, said) and one.pod.namespace == first.pod.namespace]
        return frozenset({name_of(first), *map(name_of, alike)})

    def behind(self, place: Place) -> frozenset[str]:
        """NAME.NAMESPACE of the workloads behind a Service, or one of its subsets, as the first proxy that knows it."""
        for one in self._names.every:
            if one.proxied and (found := self._seen_by(self._files.party(one), place)):
                return found
        return frozenset()

    def _seen_by(self, client: Party, place: Place) -> frozenset[str]:
        held = self._files.held(client)
        call = Call(destination=client.address, port=0)
        found = set()
        for name, cluster in held.clusters.items():
            host, subset = parts(name)
            if is_host(place, host) and subset == place.subset:
                there = (self._world.at(each.address) for each in upstreams.hosts(held, cluster, call) or ())
                found |= {name_of(each) for each in there if each is not None}
        return frozenset(found)


def _is(one: Workload, said: str) -> bool:
    """Whether a name is of a workload, or the label ``app`` of several."""
    return said in (one.pod.workload.name, one.pod.name, dict(one.pod.labels).get("app"))

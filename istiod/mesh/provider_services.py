"""Where an extension provider of the mesh configuration is: the service that it names, among those of the mesh.

Source: Istio's extensionproviders.LookupCluster. What providers do is ext_authz.py's and tracers.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Protocol, TypeVar

from istiod.mesh.registry import Registry

_LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A service's port and the cluster that leads there, whoever sees the service; or why there is none."""

    host: str = ""
    namespace: str = ""
    cluster: str = ""
    problem: str = ""


class _Provider(Protocol):
    """A provider of one kind, a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...

    @property
    def problem(self) -> str: ...


_P = TypeVar("_P", bound=_Provider)


def distinct(said: Iterable[_P | None]) -> tuple[_P, ...]:
    """The providers that there are. Of one name twice, neither can be used."""
    found: dict[str, _P] = {}
    for one in said:
        if one is not None:
            twice = "the mesh configuration has two providers of this name" if one.name in found else ""
            found[one.name] = replace(one, problem=twice or one.problem)
    return tuple(found.values())


def problems(service: str, port: int) -> Iterator[str]:
    """What is wrong with how a provider says where it is."""
    if not service:
        yield "service must be given"
    if not 0 < port <= _LAST_PORT:
        yield f"port {port} is not in the range 1 to 65535"


def find(service: str, port: int, registry: Registry) -> Found:
    """The place of a provider; ``service`` is a host or NAMESPACE/HOST."""
    namespace, _, host = service.rpartition("/")
    found = [each for each in registry.by_host.get(host, ()) if namespace in ("", each.namespace)]
    if not found:
        return Found(problem=f"no service {service} is in the mesh")
    if len(found) > 1:
        homes = ", ".join(sorted(each.namespace for each in found))
        return Found(problem=f"{host} is in namespaces {homes}; write NAMESPACE/{host}")
    if all(one.number != port for one in found[0].ports):
        return Found(problem=f"{host} has no port {port}")
    return Found(host=host, namespace=found[0].namespace, cluster=f"outbound|{port}||{host}")

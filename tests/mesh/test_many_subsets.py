"""What a host with many subsets costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from crds.key import NETWORKING, ConfigKey
from istiod.config.origin import Origin
from istiod.mesh.destination_rules import HostPolicy
from istiod.mesh.policy import TrafficPolicy

ORIGIN = Origin(key=ConfigKey(NETWORKING, "DestinationRule", "default", "web"))


class Counted(tuple[tuple[tuple[int, str], TrafficPolicy], ...]):
    """Policies that count how often they are gone through."""

    __slots__ = ()
    looks: ClassVar[list[None]] = []

    def __iter__(self) -> Iterator[tuple[tuple[int, str], TrafficPolicy]]:
        self.looks.append(None)
        return super().__iter__()


def test_a_host_with_many_subsets_is_gone_through_once() -> None:
    """Each of its clusters asks for its policy: 400 subsets of ten ports took 1.3 s otherwise."""
    policies = Counted(((80, f"v{n}"), TrafficPolicy()) for n in range(9))
    found = HostPolicy(origin=ORIGIN, host="web.default.svc.cluster.local", export_to=frozenset("*"), policies=policies)
    assert all(found.policy(80, f"v{n}") is policies[n][1] for n in range(9))
    assert len(policies.looks) == 1

"""Changes of everything in a world of files, drawn from a seed, and taken back: what bench.soak goes on with."""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

from bench import objects, world
from bench.folder import Folder
from bench.objects import Document
from bench.world import Size

SIZE: Final = Size(services=50, endpoints=3, proxies=20)
MOST: Final = 40
"""Services that are there beside those of the start."""


class Churn:
    """Draws one change after the other from a seed, and takes all back at the end."""

    def __init__(self, folder: Folder, seed: int) -> None:
        self._folder = folder
        self._chance = random.Random(seed)  # noqa: S311 (changes are drawn, no keys)
        self._turn = 0
        self._more: dict[int, list[Document]] = {}
        self._extra: dict[str, Document] = {}
        self.counts: Counter[str] = Counter()

    def step(self) -> None:
        """One change."""
        self._turn += 1
        kinds = (self._endpoints, self._weight, self._service, self._service, self._policy, self._rule)
        change = self._chance.choice(kinds)
        change()
        self.counts[change.__name__.strip("_")] += 1

    def restore(self) -> None:
        """All as it was at the start."""
        for number in list(self._more):
            self._drop(number)
        for made in self._extra.values():
            self._folder.delete(made)
        self._extra.clear()
        for i in range(SIZE.services):
            self._folder.put(objects.endpoint_slice(i, SIZE.endpoints))
        for i in range(0, SIZE.services, world.RULED):
            self._folder.put(objects.virtual_service(i))
            self._folder.put(objects.destination_rule(i))

    def _endpoints(self) -> None:
        i = self._chance.randrange(SIZE.services)
        marks = [objects.marked(self._turn % 65_536)] * self._chance.randint(0, 1)
        self._folder.put(objects.endpoint_slice(i, SIZE.endpoints, *marks))

    def _weight(self) -> None:
        i = self._chance.randrange(0, SIZE.services, world.RULED)
        self._folder.put(objects.virtual_service(i, self._chance.randint(0, 100), self._turn))

    def _rule(self) -> None:
        i = self._chance.randrange(0, SIZE.services, world.RULED)
        made = objects.destination_rule(i)
        made["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"] = self._turn
        self._folder.put(made)

    def _service(self) -> None:
        """A Service of a name that was not there for long, with pods, or the end of one."""
        if len(self._more) >= MOST or (self._more and self._chance.random() < 0.5):
            self._drop(self._chance.choice(list(self._more)))
            return
        number = SIZE.services + self._turn % 20_000  # so many have addresses of their own
        made = [objects.pod(number, j, SIZE.endpoints) for j in range(SIZE.endpoints)]
        made += [objects.service(number), objects.endpoint_slice(number, SIZE.endpoints)]
        self._more[number] = made
        for each in made:
            self._folder.put(each)

    def _drop(self, number: int) -> None:
        for each in reversed(self._more.pop(number)):
            self._folder.delete(each)
        self.counts["services that came and went"] += 1

    def _policy(self) -> None:
        """An AuthorizationPolicy or a Sidecar that comes, changes or goes."""
        i = self._chance.randrange(8)
        if i % 2:
            made = objects.sidecar(i)
        else:
            made = objects.sidecar(i) | {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"}
            paths = [f"/{self._turn}"]
            made["spec"] = {"action": "DENY", "rules": [{"to": [{"operation": {"paths": paths}}]}]}
        key = f"{made['kind']} {i}"
        if key in self._extra and self._chance.random() < 0.5:
            self._folder.delete(self._extra.pop(key))
        else:
            self._extra[key] = made
            self._folder.put(made)

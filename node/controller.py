"""Keeps the pods that Deployments and Pod objects ask for: makes them, replaces them, removes them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from crds.key import ConfigKey
from node import replicas, world
from node.container import now
from node.errors import MeshError
from node.objects import Raw, key_of, labels_of
from node.pod import Pod, Site
from node.replicas import Replica
from node.services import Backend
from wire import names

_TEMPLATE = "pod-template-hash"
_ENDED = frozenset({"Succeeded", "Failed"})
_PER_BLOCK = 250

Inject = Callable[[Raw], Raw | None]
"""A pod in, the pod to run out; None if it must not be created."""


@dataclass(slots=True, kw_only=True)
class Member:
    """A pod of the mesh: the object that asks for it, and the spec that it was made from."""

    pod: Pod
    owner: ConfigKey
    given: Raw
    grace: float | None = None
    removal: asyncio.Task[None] | None = None

    @property
    def leaving(self) -> bool:
        """Whether it is to be removed or being removed."""
        return bool(self.pod.state.deleted)


def address_of(number: int) -> str:
    """The address of the pod with that number (from 1): 10.244.0.2 and up."""
    block, rest = divmod(number - 1, _PER_BLOCK)
    return f"10.244.{block}.{rest + 2}"


class Controller:
    """The pods of a mesh by (namespace, name), in the order of their making."""

    def __init__(self, site: Site, inject: Inject) -> None:
        """Have no pods."""
        self._site = site
        self._inject = inject
        self._numbers = 0
        self.members: dict[tuple[str, str], Member] = {}

    def step(self, objects: Mapping[ConfigKey, Raw]) -> None:
        """Start what is missing; mark what has to go. ``remove_marked`` comes after the marks are published."""
        for key, raw in objects.items():
            if key.kind == "Deployment":
                self._roll(key, raw, objects)
            elif key.kind == "Pod" and (key.namespace, key.name) not in self.members:
                self._make(key, raw, objects)
        for member in self.members.values():
            wanted = objects.get(member.owner)
            if wanted is None or (member.owner.kind == "Pod" and wanted.get("spec") != member.given):
                self.mark(member)

    def _roll(self, key: ConfigKey, deployment: Raw, objects: Mapping[ConfigKey, Raw]) -> None:
        """One step of a Deployment."""
        alive = [
            Replica(
                name=member.pod.name,
                template=labels_of(member.pod.raw).get(_TEMPLATE, ""),
                ready=member.pod.state.ready,
                order=member.pod.number,
            )
            for member in self.members.values()
            if member.owner == key and not member.leaving
        ]
        chosen, strategy = replicas.template_hash(deployment), replicas.strategy_of(deployment)
        plan = replicas.plan(replicas.replicas_of(deployment), chosen, strategy, alive)
        for name in plan.remove:
            self.mark(self.members[key.namespace, name])
        for _ in range(plan.create):
            suffix = "".join(secrets.choice(replicas.ALPHABET) for _ in range(5))
            self._make(key, replicas.pod_of(deployment, f"{key.name}-{chosen}-{suffix}"), objects)

    def _make(self, owner: ConfigKey, raw: Raw, objects: Mapping[ConfigKey, Raw]) -> None:
        """Make and start a pod."""
        self._numbers += 1
        key = key_of(raw)
        meta = {**raw["metadata"], "uid": f"{self._numbers:08x}-{key.namespace}-{key.name}"}
        given = raw.get("spec") or {}
        placed = {**raw, "metadata": meta, "spec": {**given, "nodeName": world.node_for(given, objects)}}
        injected = self._inject(placed)
        if injected is None:
            return
        pod = Pod(injected, self._site, self._numbers, address_of(self._numbers))
        self.members[key.namespace, key.name] = Member(pod=pod, owner=owner, given=given)
        pod.start()
        self._site.changed()

    def find(self, name: str) -> Member:
        """A pod by NAME, NAMESPACE/NAME, or the name of its Deployment (its first pod that is ready).

        kubectl's ``deploy/NAME`` and ``pod/NAME`` are taken too.

        Raises:
            MeshError: there is none.
        """
        space, slash, rest = name.removeprefix("deploy/").removeprefix("pod/").rpartition("/")
        found = [
            member
            for (namespace, pod), member in self.members.items()
            if (not slash or namespace == space) and rest in {pod, member.owner.name} and not member.leaving
        ]
        if not found:
            raise MeshError(f"no pod {name}")
        return min(found, key=lambda m: not m.pod.state.ready)

    def mark(self, member: Member, grace: float | None = None) -> None:
        """Have a pod removed after the next publication; ``grace`` replaces what its spec says, in seconds.

        Where it is leaving already, a ``grace`` that ends sooner holds, as kubectl's second delete does.
        """
        if not member.leaving:
            member.pod.state.deleted = now()
            member.grace = grace
            self._site.changed()
        elif grace is not None:
            member.grace = grace
            member.pod.hasten(grace)

    def remove_marked(self) -> None:
        """Begin to end the pods that are marked."""
        for member in self.members.values():
            if member.leaving and member.removal is None:
                member.removal = asyncio.create_task(self._remove(member), name=f"remove {member.pod.name}")

    async def _remove(self, member: Member) -> None:
        """End one pod and forget it."""
        if member.pod.state.ready and member.grace is None:
            await asyncio.sleep(self._site.notice)
        await member.pod.remove(member.grace)
        del self.members[member.pod.namespace, member.pod.name]
        self._site.changed()

    async def close(self, grace: float) -> None:
        """End all pods, those of the root namespace last, since the others' proxies need them to the end."""
        for wanted in (False, True):
            chosen = [m for (space, _), m in self.members.items() if (space == names.ROOT_NAMESPACE) is wanted]
            for member in chosen:
                self.mark(member, grace)
            self.remove_marked()
            await asyncio.gather(*[m.removal for m in chosen if m.removal is not None])


def backend_of(pod: Pod, zone: str) -> Backend:
    """The pod as services see it."""
    spec = pod.raw.get("spec") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return Backend(
        name=pod.name,
        namespace=pod.namespace,
        uid=str(pod.raw["metadata"]["uid"]),
        address=pod.state.address,
        labels=labels_of(pod.raw),
        ports=tuple(port for c in containers for port in c.get("ports") or ()),
        ready=pod.state.ready,
        terminating=bool(pod.state.deleted),
        running=pod.state.phase not in _ENDED,
        node=pod.state.node,
        zone=zone,
        hostname=str(spec.get("hostname") or ""),
        subdomain=str(spec.get("subdomain") or ""),
    )


def unready(members: Iterable[Member]) -> list[Pod]:
    """Pods that do not serve (yet or any more)."""
    return [m.pod for m in members if m.leaving or not (m.pod.state.ready or m.pod.state.phase == "Succeeded")]

"""One pod, from its network namespace to the end of its last process: what kubelet does for a pod, as much as we need.

Order of start and end are Kubernetes': init containers one after the other (those with restartPolicy Always are
sidecars and stay), then containers; at the end containers first, then sidecars in reverse.
"""

from __future__ import annotations

import asyncio
import math
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from node import launcher, podspec, probes, resolver
from node.backoff import Backoff
from node.container import Blueprint, Container, Surroundings, now
from node.images import Image
from node.launcher import Launch
from node.network import NODE_ADDRESS, Network
from node.objects import Raw, key_of
from node.podspec import Facts
from node.prober import Probes
from node.probes import Action
from node.services import DNS_ADDRESS
from node.status import ContainerState, PodState
from node.volumes import Volumes
from wire import names

_RETRY = 0.3  # seconds between looks for a ConfigMap or Secret that is not there yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all pods of a mesh share. ``facts`` gives what a pod with this address may know at this moment."""

    network: Network
    folder: pathlib.Path
    image: Callable[[str], Image | None]
    facts: Callable[[Raw, str], Facts]
    changed: Callable[[], None]
    env: Mapping[str, str]
    shown: tuple[str, ...] = ()
    """Paths of the host that every container must be able to use, wherever they lie."""
    notice: float = 0.0
    """Seconds between telling that a ready pod is leaving and its SIGTERM."""
    failed: Callable[[BaseException], None] = lambda _: None
    backoff: Backoff = Backoff()  # noqa: RUF009 (frozen)


def _sidecar(container: Raw) -> bool:
    """Whether an init container is one that keeps running (Kubernetes' native sidecars)."""
    return container.get("restartPolicy") == "Always"


def _states(containers: list[Raw], *, init: bool) -> list[ContainerState]:
    return [
        ContainerState(name=str(c["name"]), image=str(c.get("image") or ""), sidecar=init and _sidecar(c))
        for c in containers
    ]


class Pod:
    """A pod and its processes. ``start`` returns at once; ``remove`` when nothing of it is left."""

    def __init__(self, raw: Raw, site: Site, number: int, address: str) -> None:
        """Take the pod as it stands (after injection); ``number`` names its namespace."""
        key = key_of(raw)
        self.raw = raw
        self.name, self.namespace = key.name, key.namespace
        self.number = number
        spec = raw.get("spec") or {}
        self._init: list[Raw] = list(spec.get("initContainers") or ())
        self._main: list[Raw] = list(spec.get("containers") or ())
        self.state = PodState(
            address=address,
            node=str(spec.get("nodeName") or ""),
            host_address=NODE_ADDRESS,
            init=_states(self._init, init=True),
            containers=_states(self._main, init=False),
            created=now(),
        )
        self._site = site
        self._folder = site.folder / "pods" / f"{self.namespace}_{self.name}"
        group = (spec.get("securityContext") or {}).get("fsGroup")
        self._volumes = Volumes(self._folder / "volumes", int(group) if group is not None else None)
        self.containers: dict[str, Container] = {}
        self._runs: dict[str, asyncio.Task[int]] = {}
        self._starting: asyncio.Task[None] | None = None
        self._end = math.inf

    @property
    def logs(self) -> pathlib.Path:
        """The folder of the pod's logs; it outlives the pod."""
        return self._site.folder / "logs" / f"{self.namespace}_{self.name}"

    def facts(self) -> Facts:
        """What the pod's environment and files may ask for now."""
        return self._site.facts(self.raw, self.state.address)

    def refresh(self) -> None:
        """Write files of volumes anew where a ConfigMap, Secret or token changed."""
        if self.state.initialized:
            self._volumes.prepare(self.raw, self.facts())

    def start(self) -> None:
        """Begin."""
        self._starting = asyncio.create_task(self._start(), name=f"start {self.name}")
        self._starting.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        """Tell what broke, if it was not the pod's removal."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._site.failed(error)

    async def _start(self) -> None:
        """Network, volumes, init containers, containers."""
        (self._folder / "scratch").mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        await self._site.network.attach(self.number, self.state.address)
        while problem := self._volumes.prepare(self.raw, self.facts()):
            if self.state.containers[0].message != problem:
                self.state.containers[0].message = problem
                self._site.changed()
            await asyncio.sleep(_RETRY)
        for raw, state in zip(self._init, self.state.init, strict=True):
            await self._initialize(raw, state)
        self.state.initialized = True
        for raw, state in zip(self._main, self.state.containers, strict=True):
            container = self._launch(raw, state, str((self.raw.get("spec") or {}).get("restartPolicy") or "Always"))
            if container is not None and (raw.get("lifecycle") or {}).get("postStart"):
                await container.up.wait()
        self._site.changed()

    async def _initialize(self, raw: Raw, state: ContainerState) -> None:
        """Run one init container to its end, or a sidecar until it is up."""
        container = self._launch(raw, state, "Always" if state.sidecar else "OnFailure")
        if container is None:
            await asyncio.Event().wait()  # an image that is not there holds the pod until it is removed
        elif state.sidecar:
            await container.up.wait()
        else:
            await self._runs[state.name]
            state.ready = True

    def _launch(self, raw: Raw, state: ContainerState, restart: str) -> Container | None:
        """Start a container's run; None if its image stands for nothing here."""
        image = self._site.image(state.image)
        if image is None:
            state.reason = "ImagePullBackOff"
            state.message = f'image "{state.image}" stands for no command of this machine'
            self._site.changed()
            return None
        around = Surroundings(
            inside=self._site.network.inside,
            address=self.state.address,
            changed=self._site.changed,
            backoff=self._site.backoff,
        )
        container = Container(state, self._blueprint(raw, image, restart), around)
        self.containers[state.name] = container
        self._runs[state.name] = asyncio.create_task(container.run(), name=f"{self.name}/{state.name}")
        return container

    def _blueprint(self, raw: Raw, image: Image, restart: str) -> Blueprint:
        """What the container's YAML and its image come to."""
        ports = raw.get("ports") or []
        lifecycle = raw.get("lifecycle") or {}

        def hook(name: str) -> Action | None:
            return probes.action_of(lifecycle.get(name) or {}, ports)

        return Blueprint(
            launch=self._launch_spec(raw, image),
            probes=Probes(
                startup=probes.probe_of(raw.get("startupProbe"), ports),
                liveness=probes.probe_of(raw.get("livenessProbe"), ports),
                readiness=probes.probe_of(raw.get("readinessProbe"), ports),
            ),
            folder=self.logs,
            post_start=hook("postStart"),
            pre_stop=hook("preStop"),
            restart=restart,
            grace=self.grace,
        )

    def _launch_spec(self, raw: Raw, image: Image) -> Launch:
        """The container's command with all that surrounds it."""
        env = {**self._site.env, "HOSTNAME": self.name, **image.env}
        env |= podspec.environment(self.raw, raw, self.facts())
        command, args = (
            tuple(podspec.expanded(str(part), env) for part in raw.get(field) or ()) for field in ("command", "args")
        )
        binds = [self._volumes.bind(mount) for mount in podspec.mounts(raw)]
        files = {
            "/etc/resolv.conf": (resolver.resolv_conf(self.namespace, DNS_ADDRESS, names.DEFAULT_DNS_DOMAIN), 0o644),
            "/etc/hosts": (resolver.hosts(self.name, self.state.address), 0o644),
            **{f"/usr/local/bin/{name}": (script, 0o755) for name, script in image.scripts.items()},
        }
        return Launch(
            argv=image.argv(command, args),
            env=env,
            rights=podspec.rights(self.raw, raw),
            netns=str(self._site.network.path(self.number)),
            hostname=self.name[:63],
            scratch=str(self._folder / "scratch"),
            cwd=str(raw.get("workingDir") or "/"),
            mounts=tuple(bind for bind in binds if bind is not None),
            files=files,
            shown=self._site.shown,
        )

    @property
    def grace(self) -> float:
        """Seconds between the wish to end and SIGKILL."""
        seconds = (self.raw.get("spec") or {}).get("terminationGracePeriodSeconds")
        return 30.0 if seconds is None else float(seconds)

    def hasten(self, grace: float) -> None:
        """Have a ``remove`` under way end within ``grace`` seconds, if that is sooner than it would."""
        self._end = min(self._end, asyncio.get_running_loop().time() + grace)
        for container in self.containers.values():
            container.hasten(self._end)

    async def remove(self, grace: float | None = None) -> None:
        """End everything of the pod. Safe to call in any state, once."""
        limit = self.grace if grace is None else grace
        loop = asyncio.get_running_loop()
        self._end = loop.time() + limit
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        sidecars = [c.name for c in self.state.init if c.sidecar]
        others = [c.stop(self._end - loop.time()) for name, c in self.containers.items() if name not in sidecars]
        await asyncio.gather(*others)
        for name in reversed(sidecars):
            if name in self.containers:
                await self.containers[name].stop(max(0.0, self._end - loop.time()))
        await asyncio.gather(*self._runs.values())
        path = self._site.network.path(self.number)
        if path.exists():
            launcher.kill(launcher.processes("net", [path.stat().st_ino]))
        await self._site.network.detach(self.number)
        await asyncio.to_thread(self._volumes.remove)

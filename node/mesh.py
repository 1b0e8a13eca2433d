"""A mesh on this machine, for tests, the demo and the command line: objects in, pods running, control plane told.

One loop does everything: something changed -> which pods to make or mark -> publish (files for istiod, rules, names) ->
end what is marked. So an endpoint is known to be leaving before its processes are told to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import secrets
import sys
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from crds.diagnostic import Diagnostic, Severity
from crds.key import ConfigKey
from node import acceptance, control, findings, home, images, network, objects, status, system, world
from node.controller import Controller, backend_of, unready
from node.credentials import Credentials
from node.dns import Server
from node.errors import MeshError
from node.forward import Forwarder
from node.home import Home
from node.network import NODE_ADDRESS, Network
from node.objects import Document, Raw
from node.options import Options
from node.pod import Pod, Site
from node.provision import Provision
from node.publication import Publication
from node.services import Addresses
from node.store import Stamp, Store, load, stamp_of
from wire import names

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
_RENEWAL = 600.0  # seconds between looks at tokens that may have to be renewed
_LOOK = 0.3  # seconds between looks at files that are followed
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Mesh:
    """``async with Mesh(["bookinfo.yaml"]) as mesh: await mesh.ready(60)``."""

    def __init__(self, files: Iterable[str | os.PathLike[str]] = (), options: Options | None = None) -> None:
        """Nothing happens before ``async with``. ``files`` are YAML files or folders."""
        self.options = options or Options()
        self.name = self.options.name or f"t{secrets.token_hex(4)}"
        self._files = [pathlib.Path(file) for file in files]
        self._changed = asyncio.Event()
        self._tick = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self._addresses = Addresses()
        self._failure: BaseException | None = None
        self._home: Home | None = None
        self._image = images.table(str(pathlib.Path(sys.prefix, "bin", "python")), self.options.images)
        self._said: set[Diagnostic] = set()
        self._held: dict[pathlib.Path, tuple[frozenset[ConfigKey], Stamp]] = {}

    async def __aenter__(self) -> Self:
        """Bring up network, names and pods; does not wait for readiness.

        Raises:
            MeshError: no root, a missing program, or a mesh of that name is up.
        """
        if problem := network.missing():
            raise MeshError(problem)
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        """Make everything; what was made is undone by ``stack``, also when a later step fails."""
        self._home = await home.claim(self.name, self.options.root)
        stack.push_async_callback(self._home.remove)
        self._network = Network(home.prefix_of(self.name, self.options.root))
        stack.callback(self._network.close)
        await self._network.open()
        self._dns = Server()
        await self._dns.start(self._network.inside)
        stack.callback(self._dns.close)
        self._store = Store(self._home.config)
        self._publication = Publication(self._home.runtime)
        self._rules = ""
        self._controller = Controller(self._site(), self._inject)
        if self.options.control_plane:
            await self.apply(system.manifests(self._home.folder, self.options))
        for path in self._files:
            await self.apply(pathlib.Path(path))
        self._running = asyncio.create_task(self._run(), name=f"mesh {self.name}")
        self._running.add_done_callback(self._ended)
        stack.push_async_callback(self._close)
        stack.callback((await control.serve(self, self._home.folder)).close)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process, remove every namespace and folder of the mesh."""
        await self._stack.__aexit__(kind, error, trace)

    async def _close(self) -> None:
        """End the loop, then the pods."""
        self._running.cancel()
        await asyncio.wait([self._running])  # what broke it, if anything did, was told to whoever waited
        await self._controller.close(self.options.grace)

    def _site(self) -> Site:
        """What pods need of this mesh."""
        env = {
            "PATH": f"{pathlib.Path(sys.prefix, 'bin')}:{_PATH}",
            "HOME": "/",
            "PYTHONPATH": str(_REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return Site(
            network=self._network,
            folder=self._own.folder,
            image=self._image,
            facts=Provision(self._store.objects, Credentials(self._own.folder)).facts,
            changed=self._changed.set,
            failed=self._fail,
            env=env,
            notice=self.options.notice,
            backoff=self.options.backoff,
            shown=(str(_REPOSITORY), sys.prefix, sys.base_prefix),
        )

    @property
    def _own(self) -> Home:
        if self._home is None:
            raise MeshError("the mesh is not up")
        return self._home

    @property
    def config(self) -> pathlib.Path:
        """The folder of the user's configuration, which istiod watches; files may be written into it directly."""
        return self._own.config

    @property
    def runtime(self) -> pathlib.Path:
        """The folder of what the node publishes."""
        return self._own.runtime

    def _inject(self, pod: Raw) -> Raw | None:
        """The pod with its sidecar, where its namespace asks for one; what is wrong is said once."""
        if not self.options.control_plane:
            return pod
        found, diagnostics = system.injected(pod, self._store.objects)
        for each in diagnostics:
            if each not in self._said:
                self._said.add(each)
                self.options.complain(each)
        return found

    # -- the loop

    def _fail(self, error: BaseException) -> None:
        """Take note of what broke; whoever waits is told."""
        self._failure = self._failure or error
        self._tick.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The loop ends only when it is cancelled or broken."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _run(self) -> None:
        """React to changes for ever."""
        while True:
            try:
                async with asyncio.timeout(_RENEWAL):
                    await self._changed.wait()
            except TimeoutError:
                self._refresh()
            self._changed.clear()
            self._controller.step(self._store.objects)
            await self._publish()
            self._controller.remove_marked()
            tick, self._tick = self._tick, asyncio.Event()
            tick.set()

    async def _publish(self) -> None:
        """Tell the control plane, the rules and the name server what is."""
        pods = [m.pod for m in self._controller.members.values()]
        backends = [backend_of(pod, world.zone_of(pod.state.node, self._store.objects)) for pod in pods]
        documents = [status.document(pod.raw, pod.state) for pod in pods]
        found = world.build(self._store.objects, documents, backends, self._addresses, NODE_ADDRESS)
        if found.rules != self._rules:
            await self._network.load(found.rules)
            self._rules = found.rules
        self._dns.zone = found.zone
        self._publication.write(found.objects)

    async def wait(self, condition: Callable[[], bool], deadline: float, what: str) -> None:
        """Wait until the condition holds; it is looked at after each change.

        Raises:
            MeshError: it did not within ``deadline`` seconds; the message says what pods are doing.
        """
        end = asyncio.get_running_loop().time() + deadline
        while True:
            if self._failure is not None:
                raise MeshError(f"the mesh broke: {self._failure}") from self._failure
            tick = self._tick
            if not self._changed.is_set() and condition():
                return
            left = end - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(left, 0.001)):
                    await tick.wait()
            except TimeoutError:
                raise MeshError(f"not within {deadline:.0f} s: {what}\n{self.table()}") from None

    # -- what users of a mesh do

    async def ready(self, deadline: float = 60.0) -> None:
        """Wait until every pod that is asked for is ready and none is leaving.

        Raises:
            MeshError: not within ``deadline`` seconds; the message shows the pods.
        """
        await self.wait(lambda: not unready(self._controller.members.values()), deadline, "all pods ready")

    async def apply(self, what: str | pathlib.Path, file: str = "-", namespace: str = "") -> list[Diagnostic]:
        """Apply YAML, a text or that of a file or folder; what is wrong with it.

        Findings name a text's place by ``file``; ``namespace`` is that of objects that name none, else the mesh's.

        Raises:
            OSError: the path is not there.
        """
        if isinstance(what, str):
            documents, found = objects.read(what, file, namespace or self.options.namespace)
        else:
            stamp = stamp_of(what)
            documents, found = load([what], self.options.namespace)
            self._held[what] = (frozenset(objects.key_of(document.raw) for document in documents), stamp)
        self._take(documents, found)
        return found

    def _take(self, documents: Sequence[Document], found: list[Diagnostic]) -> None:
        """Take objects in; ``found`` is added to."""

        def known(image: str) -> bool:
            return self._image(image) is not None

        taken = []
        for document in documents:
            refused = acceptance.refusals(document)
            found += refused or findings.findings(document, known)
            if not (refused or findings.is_workload(document)):
                taken.append(document)
        for each in found:
            self.options.complain(each)
        self._store.apply(taken)
        self._touch()

    async def follow(self, path: str | os.PathLike[str]) -> None:
        """Apply a file or folder again whenever it changes, and delete what it no longer holds; until cancelled.

        It is looked at a few times a second: that also sees files that an editor replaced, and none is missed between.
        """
        source = pathlib.Path(path)
        while True:
            await asyncio.sleep(_LOOK)
            before, stamp = self._held.get(source, (frozenset(), ()))
            try:
                if stamp_of(source) == stamp:
                    continue
                found = await self.apply(source)
            except OSError:
                continue  # being replaced, or gone: what it held stays
            keys, stamp = self._held[source]
            if any(each.severity is Severity.ERROR for each in found):  # what cannot be read is not gone
                self._held[source] = (before | keys, stamp)
            else:
                for key in before - keys:
                    self._store.delete(key)
                self._touch()

    async def delete(self, kind: str, name: str, namespace: str = "", group: str | None = None) -> bool:
        """Delete an object by kind (without a group: as kubectl takes it) and name; False if there is none."""
        group, kind = objects.kind_of(kind) if group is None else (group, kind)
        space = "" if kind in objects.CLUSTER_SCOPED else namespace or self.options.namespace
        key = ConfigKey(group, kind, space, name)
        gone = self._store.delete(key)
        self._touch()
        return gone

    def _touch(self) -> None:
        """Look again at everything that follows from objects."""
        self._refresh()
        self._changed.set()

    def _refresh(self) -> None:
        """Write pods' files anew where a ConfigMap, Secret or token has changed."""
        for member in self._controller.members.values():
            member.pod.refresh()

    def pod(self, name: str) -> Pod:
        """A pod by NAME, NAMESPACE/NAME, or the name of its Deployment (its first pod that is ready).

        Raises:
            MeshError: there is none.
        """
        return self._controller.find(name).pod

    async def exec(self, pod: str, argv: Sequence[str], container: str = "") -> tuple[int, str, str]:
        """Run a command in a pod's first container or the named one: exit code, stdout, stderr.

        Raises:
            MeshError: there is no such pod or container, or it does not run.
        """
        found = self.pod(pod)
        name = container or found.state.containers[0].name
        if name not in found.containers:
            raise MeshError(f"pod {pod} runs no container {name}; it runs {', '.join(found.containers) or 'none'}")
        code, out, err = await found.containers[name].execute(tuple(argv))
        return code, out.decode(errors="replace"), err.decode(errors="replace")

    def logs(self, pod: str, container: str = "") -> str:
        """What a container has written so far, over all its runs.

        Raises:
            MeshError: there is no such pod or container.
        """
        found = self.pod(pod)
        names = [each.name for each in (*found.state.containers, *found.state.init)]
        name = container or names[0]
        if name not in names:
            raise MeshError(f"pod {pod} has no container {name}; it has {', '.join(names)}")
        path = found.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def kill(self, pod: str, grace: float | None = None) -> str:
        """Delete a pod as ``kubectl delete pod`` does; its full name. A Deployment makes another one at once.

        Raises:
            MeshError: there is none.
        """
        member = self._controller.find(pod)
        if member.owner.kind == "Pod":
            self._store.delete(member.owner)
        self._controller.mark(member, grace)
        return member.pod.name

    def pods(self) -> list[Raw]:
        """All pods with their status, as an API server would give them."""
        return [status.document(m.pod.raw, m.pod.state) for m in self._controller.members.values()]

    def table(self) -> str:
        """The pods as ``kubectl get pods -A`` shows them."""
        return status.pods_table(self.pods())

    def service_address(self, name: str, namespace: str = "") -> str:
        """The cluster IP of a Service.

        Raises:
            MeshError: it has none.
        """
        found = self._addresses.held.get((namespace or self.options.namespace, name))
        if found is None:
            raise MeshError(f"service {name} has no address")
        return found

    async def forward(self, name: str, port: int, *, namespace: str = "", host_port: int = 0) -> int:
        """Lead a port of the host's loopback to a port of a Service until the mesh ends; the host's port.

        Raises:
            OSError: the host's port is taken.
        """
        space = namespace or self.options.namespace

        def target() -> tuple[str, int]:
            try:
                return self.service_address(name, space), port
            except MeshError as error:
                raise ConnectionRefusedError(str(error)) from error

        forwarder = Forwarder(self._network.inside, target)
        await forwarder.start(host_port)
        self._stack.push_async_callback(forwarder.close)
        return forwarder.port

    async def forward_gateway(self, host_port: int = 0) -> int:
        """Lead a port of the host to port 80 of the ingress gateway; the host's port."""
        return await self.forward(system.GATEWAY, 80, namespace=names.ROOT_NAMESPACE, host_port=host_port)

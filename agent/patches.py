"""EnvoyFilters' patches of the bootstrap, asked for once, before Envoy starts (``applyTo: BOOTSTRAP``, feature row K2).

Only where BOOTSTRAP_XDS_AGENT asks for it. A pod has to start, whatever somebody patches: where istiod gives no answer
in time, or this pod's own Envoy refuses what comes of its patches, Envoy starts without them, and the log says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from agent.bootstrap import patched
from agent.sds.identity import CaClient, IdentityError
from wire import names

PATIENCE: Final = 20.0
"""Seconds for all of it: without istiod, Envoy would not become ready either."""
_METHOD: Final = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_PAUSE: Final = 1.0
_GOODBYE: Final = 2.0
"""Seconds for istiod to hear the answer before the connection ends."""
_MOST_WORDS: Final = 2_000
_OK: Final = b"OK\n"
_INVALID_ARGUMENT: Final = 3
_LOG: Final = logging.getLogger("bootstrap")

Check = Callable[[bytes], Awaitable[str]]
"""Says what Envoy says against a bootstrap; "" where it takes it."""


class SilentError(Exception):
    """istiod ended the stream without an answer."""


async def applied(client: CaClient, bootstrap: Mapping[str, Any], check: Check, seconds: float = PATIENCE) -> bytes:
    """The bootstrap with its patches, in Envoy's binary form; b"" where it is to be taken as it is."""
    try:
        async with asyncio.timeout(seconds):
            return await _until_answered(client, bootstrap, check)
    except TimeoutError:
        _LOG.error(
            "no patches of the bootstrap from %s within %g s: Envoy starts without them", client.address, seconds
        )
        return b""
    except Exception:  # noqa: BLE001 (a bug: a pod has to start, whatever somebody patches)
        _LOG.exception("the bootstrap is not patched: Envoy starts without patches")
        return b""


async def _until_answered(client: CaClient, bootstrap: Mapping[str, Any], check: Check) -> bytes:
    while True:
        try:
            return await _asked(client, bootstrap, check)
        except (OSError, IdentityError, SilentError) as error:
            said = str(error)
        except grpc.aio.AioRpcError as error:
            said = f"{error.code().name} {error.details()}"
        _LOG.warning("no patches of the bootstrap from %s yet: %s", client.address, said)
        await asyncio.sleep(_PAUSE)


async def _asked(client: CaClient, bootstrap: Mapping[str, Any], check: Check) -> bytes:
    """Ask once, and answer what Envoy says of it.

    Raises:
        SilentError: there was no answer.
    """
    async with client.channel() as (channel, metadata):
        ask = channel.stream_stream(
            _METHOD,
            request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
        )
        call = ask(metadata=metadata)
        with contextlib.suppress(grpc.aio.AioRpcError):  # which says less than the end that is read
            await call.write(_request(bootstrap["node"]))
        response = await call.read()
        if not isinstance(response, discovery_pb2.DeltaDiscoveryResponse):
            raise SilentError(f"the stream ended: {await call.details()}")
        found, words = await _judged(bootstrap, [each.resource.value for each in response.resources], check)
        # An end of the stream meanwhile, be it as InvalidStateError of asyncio's, takes nothing back.
        with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(_answer(response.nonce, words))
            await call.done_writing()
            async with asyncio.timeout(_GOODBYE):
                await call.read()
        return found


def _request(node: Mapping[str, Any]) -> discovery_pb2.DeltaDiscoveryRequest:
    request = discovery_pb2.DeltaDiscoveryRequest(
        type_url=names.BOOTSTRAP, resource_names_subscribe=[names.BOOTSTRAP_PATCHES]
    )
    json_format.ParseDict(dict(node), request.node)
    return request


def _answer(nonce: str, words: str) -> discovery_pb2.DeltaDiscoveryRequest:
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=names.BOOTSTRAP, response_nonce=nonce)
    if words:
        request.error_detail.code, request.error_detail.message = _INVALID_ARGUMENT, words
    return request


async def _judged(bootstrap: Mapping[str, Any], patches: Sequence[bytes], check: Check) -> tuple[bytes, str]:
    """The bootstrap with its patches and "", or b"" and what is wrong with them; b"" and "" where there are none."""
    if not patches:
        _LOG.info("istiod has no patches of the bootstrap for this proxy")
        return b"", ""
    try:
        found = patched.merged(bootstrap, patches[0])
        words = await check(found)
    except patched.PatchError as error:
        words = str(error)
    if words:
        _LOG.error("the bootstrap with its patches is refused, Envoy starts without them: %s", words)
        return b"", words
    _LOG.info("the bootstrap is patched by EnvoyFilters")
    return found, ""


class Trial:
    """Asks this pod's Envoy about a bootstrap, written to ``path``: the same binary and variables that will run."""

    def __init__(self, binary: str, path: pathlib.Path, variables: Mapping[str, str]) -> None:
        self._binary = binary
        self._path = path
        self._variables = variables

    async def words(self, bootstrap: bytes) -> str:
        """What it says against it; "" where it takes it."""
        self._path.write_bytes(bootstrap)
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *(self._binary, "--mode", "validate", "-c", str(self._path)),
            *("--disable-hot-restart", "--allow-unknown-static-fields", "--concurrency", "1", "-l", "critical"),
            stdin=nothing,
            stdout=pipe,
            stderr=pipe,
            env=os.environ | self._variables,
        )
        try:
            said, against = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if said.endswith(_OK):
            return ""
        return against.decode(errors="replace").strip()[-_MOST_WORDS:] or f"it ended with {process.returncode}"

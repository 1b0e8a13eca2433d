"""The CA of a mesh in Kubernetes: Secrets of the root namespace, which all replicas watch (istiod.ca.following.Place).

``cacerts`` is the operator's own CA, also mounted as a folder; ``istio-ca-secret`` is the one that istiod made;
``istio-ca-rotation`` is ours: the state of a replacement, and what each replica sees of its proxies meanwhile. It may
hold a private key, of the CA that signs until the new one may.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from istiod.ca import authority, keystore, rollover
from istiod.ca.authority import Authority, AuthorityError, Material
from istiod.ca.following import OutdatedError, UngrantedError
from istiod.ca.rollover import Seen, State
from istiod.config.kubernetes import CONFLICT, ApiError, Raw, Resource
from istiod.kube import fence
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from istiod.kube.collection import Collection
from istiod.kube.lease import Leader
from wire.ca import OWN_CA, PLUGGED_IN, ROTATE, ROTATION, STATE, STATUS

ROTATION_TYPE: Final = "istio.io/ca-rotation"
FRESH: Final = 20.0
"""Seconds after which a replica that has said nothing new counts as gone."""
REPORT: Final = 5.0
"""Seconds between two reports of a replica while proxies have to learn a root."""
_REPLICA: Final = "replica."


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Who we are: the root namespace, this replica's name, the trust domain, and where ``cacerts`` may be mounted.

    ``now`` gives aware times, ``life`` is that of new roots.
    """

    namespace: str
    replica: str
    organization: Callable[[], str]
    mounted: pathlib.Path
    now: Callable[[], dt.datetime]
    life: dt.timedelta = authority.ROOT_LIFE


@dataclass(slots=True)
class _Heard:
    """What a replica said last, and when that was new, by our own clock."""

    text: bytes = b""
    at: float = field(default=float("-inf"))


def kept(raw: Raw) -> Raw:
    """What is looked at of a Secret."""
    try:
        data = {key: base64.b64decode(value, validate=True) for key, value in (raw.get("data") or {}).items()}
    except (binascii.Error, ValueError, TypeError, AttributeError):
        data = {}
    metadata = raw["metadata"]
    return {
        "data": data,
        "annotations": metadata.get("annotations") or {},
        "version": metadata.get("resourceVersion", ""),
    }


class SecretPlace:
    """A following.Place. ``collections`` are to be followed for it to know anything."""

    def __init__(
        self, client: KubernetesClient, leader: Leader, own: Own, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._leader = leader
        self._own = own
        self._clock = clock
        self._heard: dict[str, _Heard] = {}
        self._reported: Seen | None = None
        self._reported_at = float("-inf")
        self._folder = keystore.Folder(own.mounted)
        self.problem: ApiError | None = None
        self.collections = tuple(
            Collection(client, self._resource(name), kept, lambda: None) for name in (PLUGGED_IN, OWN_CA, ROTATION)
        )

    @property
    def leads(self) -> bool:
        """See Place. Who has not read all yet decides nothing."""
        return self._leader.holds and all(each.listed for each in self.collections)

    def wanted(self) -> Material | None:
        """See Place."""
        material = self._folder.load()
        if material is not None:
            return material
        for collection, name in zip(self.collections, (PLUGGED_IN, OWN_CA), strict=False):
            if not collection.listed:
                return None
            if (found := collection.items.get((self._own.namespace, name))) is not None:
                return keystore.unpack(found["data"], f"Secret {name}")
        return None

    def state(self) -> State | None:
        """See Place."""
        found = self._rotation().get(STATE)
        return None if not found else rollover.load(found.decode(errors="replace"))

    def others(self, fingerprint: int) -> Sequence[Seen]:
        """See Place."""
        found = []
        for key, text in self._rotation().items():
            if not key.startswith(_REPLICA) or key == self._key:
                continue
            heard = self._heard.setdefault(key, _Heard())
            if heard.text != text:
                heard.text, heard.at = text, self._clock()
            found.append(_seen(text, fingerprint, fresh=self._clock() < heard.at + FRESH))
        return found

    async def keep(self, state: State, status: str) -> None:
        """See Place. On top of what was read only: who led before may have written meanwhile.

        Raises:
            AuthorityError: the API server refused or failed.
            OutdatedError: somebody else has written since it was read.
        """
        gone = {key: None for key, heard in self._heard.items() if self._clock() >= heard.at + FRESH}
        self._heard = {key: heard for key, heard in self._heard.items() if key not in gone}
        await self._put({STATE: rollover.dump(state).encode(), **gone}, {STATUS: status or None}, sole=True)

    async def report(self, seen: Seen, fingerprint: int) -> None:
        """See Place. Written while proxies have to learn a root, and for a life that is longer than is known of.

        Each replica that ever wrote has its line until the state is next kept: those of a usual life need none.
        """
        state = self.state()
        due = self._clock() >= self._reported_at + REPORT and state is not None and state.waits
        told = self._reported.longest if self._reported is not None else 0.0
        known = min((root.longest for root in state.roots), default=0.0) if state is not None else 0.0
        if not due and seen.longest <= max(told, known):
            return
        said = {
            "fingerprint": fingerprint,
            "missing": seen.missing,
            "old": seen.old,
            "longest": seen.longest,
            "time": time.time(),
        }
        await self._put({self._key: json.dumps(said).encode()}, {})
        self._reported, self._reported_at = seen, self._clock()

    async def renew(self, state: State, signer: Authority, *, aged: bool) -> bool:
        """See Place.

        Raises:
            AuthorityError: the CA is the operator's own, or the API server refused or failed.
        """
        found = self.collections[1].items.get((self._own.namespace, OWN_CA))
        wished = found is not None and ROTATE in found["annotations"]
        if found is None or not (wished or aged):
            return False
        if (self._own.namespace, PLUGGED_IN) in self.collections[0].items or self._folder.load() is not None:
            if not wished:
                return False
            raise UngrantedError(f"{ROTATE} is for the self-signed root, and {PLUGGED_IN} is there: replace that")
        if signer.material.certificate.strip() != found["data"].get(keystore.CERTIFICATE, b"").strip():
            return False
        await self.keep(state, "")
        made = authority.self_signed(self._own.organization(), self._own.now(), self._own.life)
        body = {
            "metadata": {"resourceVersion": found["version"], "annotations": {ROTATE: None}},
            "data": _encoded(keystore.pack(made)),
        }
        answer = await self._write("patch", f"{self._path}/{OWN_CA}", body)
        self.collections[1].items[self._own.namespace, OWN_CA] = kept(answer)
        return True

    @property
    def _key(self) -> str:
        return f"{_REPLICA}{self._own.replica}"

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._own.namespace}/secrets"

    def _resource(self, name: str) -> Resource:
        return Resource(
            group="",
            version="v1",
            plural="secrets",
            kind="Secret",
            namespace=self._own.namespace,
            fields=f"metadata.name={name}",
        )

    def _rotation(self) -> Mapping[str, bytes]:
        found = self.collections[2].items.get((self._own.namespace, ROTATION))
        return {} if found is None else found["data"]

    async def _put(
        self, data: Mapping[str, bytes | None], annotations: Mapping[str, str | None], *, sole: bool = False
    ) -> None:
        """Write these parts; ``sole``: as the one who leads, and if nobody has written since it was read."""
        there = self.collections[2].items.get((self._own.namespace, ROTATION))
        if there is None:
            answer = await self._write("post", self._path, new(data), fenced=sole)
        else:
            version = {"resourceVersion": there["version"]} if sole else {}
            body = {"metadata": {"annotations": dict(annotations), **version}, "data": _encoded(data)}
            answer = await self._write("patch", f"{self._path}/{ROTATION}", body, fenced=sole)
        self.collections[2].items[self._own.namespace, ROTATION] = kept(answer)

    async def _write(self, method: str, path: str, body: object, *, fenced: bool = True) -> Raw:
        """The API server's answer.

        Raises:
            AuthorityError: it refused or failed, or we lead no more.
            OutdatedError: the object is another one by now.
        """
        try:
            with fence.fenced((lambda: self._leader.holds) if fenced else (lambda: True)):
                answer: Raw = await self._client.request(
                    method, path, body, kind=MERGE_PATCH if method == "patch" else ""
                )
        except (ApiError, fence.FencedError) as error:
            if isinstance(error, ApiError) and error.status == CONFLICT:
                raise OutdatedError(str(error)) from error
            self.problem = error if isinstance(error, ApiError) else None
            raise AuthorityError(str(error)) from error
        self.problem = None
        return answer


def new(data: Mapping[str, bytes | None]) -> dict[str, Any]:
    """The Secret ROTATION with these parts."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": ROTATION_TYPE,
        "metadata": {"name": ROTATION},
        "data": _encoded({key: value for key, value in data.items() if value is not None}),
    }


def _encoded(data: Mapping[str, bytes | None]) -> dict[str, str | None]:
    return {key: None if value is None else base64.b64encode(value).decode() for key, value in data.items()}


def _seen(text: bytes, fingerprint: int, *, fresh: bool) -> Seen:
    """What a replica reported; one that is gone has no proxies, but what it granted may live."""
    try:
        said = json.loads(text)
        longest = float(said["longest"])
        if not fresh:
            return Seen(missing=0, longest=longest)
        missing = said["missing"] if said["fingerprint"] == fingerprint else None
        return Seen(missing=None if missing is None else int(missing), old=int(said["old"]), longest=longest)
    except (ValueError, RecursionError, TypeError, KeyError):
        return Seen(missing=None if fresh else 0)

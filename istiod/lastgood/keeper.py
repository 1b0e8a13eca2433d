"""What of the quarantine is kept, and what of what is kept is in the quarantine: compared again and again.

Records come and go by name, and each says one thing, so replicas write beside each other without a Lease: the same
record from two of them is the same, and one that somebody took away (a proxy accepted the resource, or its object
changed) is released everywhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from crds.key import ConfigKey
from crds.meta import Object
from istiod.ads.quarantine import Quarantine, Refused, key_of
from istiod.config.origin import Origin
from istiod.config.protocols import Records
from istiod.config.resource import Resource
from istiod.lastgood import record
from istiod.lastgood.record import MalformedRecordError, Record

_LOGGER = logging.getLogger(__name__)
GRACE: Final = 5.0
"""Seconds that a record stays whose object has changed: a replica whose proxies still want the resource says so."""
MOST: Final = 900_000
"""Bytes of all records together: a Kubernetes Secret holds 1 MiB, and base64 is counted."""
MOST_OF_ONE: Final = 20
"""Records of one identity."""
MOST_VERSIONS: Final = 4
"""Records of one resource by one identity: each change of anything in it while it is refused makes another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the keeper asks of the rest.

    ``ready``: all objects have been read. ``wants``: a connected proxy should have this very resource. ``find`` gives
    an object, ``origins`` those that a resource with Envoy's words came from. ``clock`` counts seconds, ``now`` those
    since 1970.
    """

    ready: Callable[[], bool]
    wants: Callable[[Resource], bool]
    find: Callable[[ConfigKey], Object | None]
    origins: Callable[[Resource, str], tuple[Origin, ...]]
    clock: Callable[[], float]
    now: Callable[[], float]


@dataclass(slots=True)
class _Known:
    """A record as it is kept, and since when its object is another one."""

    raw: bytes
    record: Record
    stale_since: float | None = None


class Keeper:
    """Of one process. ``on_taken`` is told when records brought refusals that were not known."""

    def __init__(
        self, quarantine: Quarantine, records: Records, view: View, on_taken: Callable[[], None] = lambda: None
    ) -> None:
        self._quarantine = quarantine
        self._records = records
        self._view = view
        self._on_taken = on_taken
        self._known: dict[str, _Known] = {}
        self._unread: dict[str, bytes] = {}
        self._marks: dict[ConfigKey, tuple[Object, str]] = {}
        self._whose: dict[str, str] = {}
        self._unkept: dict[str, str] = {}
        self._origins: dict[str, tuple[Origin, ...]] = {}

    def take(self) -> None:
        """Follow what is kept by now."""
        items = self._records.items
        for name in [name for name in self._known if name not in items]:
            gone = self._known.pop(name).record.refused
            if self._quarantine.holds(gone.rejection.resource, gone.identity):
                self._quarantine.release(gone.rejection.resource, gone.identity)
        self._unread = {name: raw for name, raw in self._unread.items() if name in items}
        taken = False
        for name, raw in items.items():
            known = self._known.get(name)
            if (known is None or known.raw != raw) and self._unread.get(name) != raw:
                taken |= self._take(name, raw)
        if taken:
            self._on_taken()

    def _take(self, name: str, raw: bytes) -> bool:
        try:
            found = _read(name, raw)
        except MalformedRecordError as error:
            _LOGGER.warning("record %s of a refusal is left alone: %s", name[:100], error)
            self._unread[name] = raw
            return False
        self._known[name] = _Known(raw, found)
        self._whose[name] = found.refused.identity
        self._quarantine.restore(found.refused)
        return True

    def due(self) -> Mapping[str, bytes | None]:
        """What is to be written by name; None: is to be taken away."""
        self.take()
        if not self._view.ready():
            return {}
        held = {record.name_of(refused): refused for refused in self._quarantine.held()}
        gone = {name for name, known in self._known.items() if name not in held or self._over(known)}
        for name in gone & held.keys():
            self._quarantine.release(held[name].rejection.resource, held[name].identity)
            del held[name]
        changes: dict[str, bytes | None] = dict.fromkeys(gone)
        self._unkept = {}
        self._whose = {name: whose for name, whose in self._whose.items() if name in self._known}
        self._origins = {name: found for name, found in self._origins.items() if name in held}
        for name, refused in held.items():
            if record.keepable(refused.rejection.resource) and self._view.wants(refused.rejection.resource):
                self._add(name, refused, changes)
        return changes

    def standing(self, refused: Resource) -> bool:
        """Whether this resource is what its object still makes, as far as is known, though no proxy here has it."""
        alike = [known for known in self._known.values() if _same_name(known.record, refused)]
        mine = [known for known in alike if key_of(known.record.refused.rejection.resource) == key_of(refused)]
        others = (known.record.refused.rejection.resource for known in alike if known not in mine)
        return any(self._fresh(known.record) for known in mine) and not any(map(self._view.wants, others))

    def findings(self) -> tuple[Diagnostic, ...]:
        """What is not kept, and what cannot be read."""
        found = [
            diagnostic.warning(Code.UNKEPT, origins[0].key if origins else None, "", message)
            for name, message in self._unkept.items()
            for origins in (self._origins.get(name, ()),)
        ]
        if self._unread:
            message = f"{len(self._unread)} records of refusals cannot be read, such as {min(self._unread)[:100]}"
            found.append(diagnostic.warning(Code.UNKEPT, None, "", message))
        return tuple(found)

    def _over(self, known: _Known) -> bool:
        """Whether the object of a record has been another one for long, and no proxy should have the resource."""
        if self._fresh(known.record) or self._view.wants(known.record.refused.rejection.resource):
            known.stale_since = None
            return False
        if known.stale_since is None:
            known.stale_since = self._view.clock()
        return self._view.clock() >= known.stale_since + GRACE

    def _fresh(self, found: Record) -> bool:
        """Whether all its objects are as they were; not while they are being read."""
        if not self._view.ready():
            return True
        return bool(found.origins) and found.marks == self._marks_of(found.origins)

    def _add(self, name: str, refused: Refused, changes: dict[str, bytes | None]) -> None:
        known = self._known.get(name)
        origins = known.record.origins if known is not None else self._origins_of(name, refused)
        marks = self._marks_of(origins)
        if known is not None:
            was = known.record
            if was.marks == marks and (was.refused.instead is not None or refused.instead is None):
                return
        wanted = Record(refused=refused, origins=origins, marks=marks, at=self._view.now())
        packed = record.pack(wanted)
        if len(packed) > record.MOST_PACKED:
            self._unkept[name] = _too_large(refused, len(packed))
            packed = record.pack(replace(wanted, refused=replace(refused, instead=None)))
            if known is not None and known.record.marks == marks:
                return
        if self._has_room(name, refused, packed, changes):
            changes[name] = packed
            self._whose[name] = refused.identity
        else:
            self._unkept[name] = f"{_named(refused)}: its refusal is not kept over a restart, there are too many"

    def _origins_of(self, name: str, refused: Refused) -> tuple[Origin, ...]:
        found = self._origins.get(name)
        if found is None:
            rejection = refused.rejection
            found = self._origins[name] = rejection.origins or self._view.origins(rejection.resource, rejection.error)
        return found

    def _has_room(self, own: str, refused: Refused, packed: bytes, changes: dict[str, bytes | None]) -> bool:
        """Whether one more may be kept; the oldest version of the same resource may go for it."""
        alike = sorted(
            (known.record.at, name)
            for name, known in self._known.items()
            if known.record.refused.identity == refused.identity
            and _same_name(known.record, refused.rejection.resource)
            and not self._view.wants(known.record.refused.rejection.resource)
        )
        if len(alike) >= MOST_VERSIONS:
            changes[alike[0][1]] = None
        left = {**{name: known.raw for name, known in self._known.items()}, **self._unread, **changes}
        others = {name: raw for name, raw in left.items() if raw is not None and name != own}
        sizes = sum(len(name) + _encoded(raw) for name, raw in others.items())
        count = sum(self._whose.get(name) == refused.identity for name in others)
        return sizes + len(own) + _encoded(packed) <= MOST and count < MOST_OF_ONE

    def _marks_of(self, origins: tuple[Origin, ...]) -> tuple[str, ...]:
        return tuple(self._mark(origin.key) for origin in origins)

    def _mark(self, key: ConfigKey) -> str:
        """Stands for what an object says, "" where it is not there."""
        found = self._view.find(key)
        if found is None:
            self._marks.pop(key, None)
            return ""
        known = self._marks.get(key)
        if known is None or known[0] is not found:
            known = self._marks[key] = (found, mark(found))
        return known[1]


def mark(found: Object) -> str:
    """A hash of what an object says, without what says nothing to the mesh."""
    said = found.model_dump(mode="json", by_alias=True, exclude={"metadata", "status"})
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=8).hexdigest()


def _read(name: str, raw: bytes) -> Record:
    found = record.unpack(raw)
    if found.name != name:
        raise MalformedRecordError("kept under another name than its own")
    return found


def _same_name(found: Record, other: Resource) -> bool:
    known = found.refused.rejection.resource
    return (known.type_url, known.name) == (other.type_url, other.name)


def _encoded(raw: bytes) -> int:
    return (len(raw) + 2) // 3 * 4


def _named(refused: Refused) -> str:
    found = refused.rejection.resource
    return f"{found.type_url.rpartition('.')[2]} {found.name}"


def _too_large(refused: Refused, size: int) -> str:
    most = record.MOST_PACKED // 1024
    return f"{_named(refused)}: its last good version is not kept over a restart: {size // 1024} KiB, of at most {most}"

"""The one mutable thing of the control plane: the objects as their source last gave them.

Sources write (apply, remove); the pipeline takes frozen snapshots. Equal objects say nothing, so no source has to
remember what it already said.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from crds.key import ConfigKey
from crds.meta import Object
from istiod.config import gateway_names, key_sets, secret_rights
from istiod.config.gateway_names import Addresses
from istiod.config.key_sets import KeySets, KeySource
from istiod.config.secret_rights import Readers
from istiod.features import DEFAULTS, Features
from wire import names

Kind = tuple[str, str]
MESH_CONFIG = ConfigKey("", "ConfigMap", names.ROOT_NAMESPACE, "istio")
"""The mesh's settings where nothing else is said: their namespace is the root namespace."""
Listener = Callable[[ConfigKey], None]


@dataclass(frozen=True, slots=True, eq=False)
class ConfigSnapshot:
    """The objects at one moment, by (group, kind) and key. Unchanged kinds are shared with earlier snapshots."""

    kinds: Mapping[Kind, Mapping[ConfigKey, Object]]
    features: Features = DEFAULTS
    mesh_config: ConfigKey = MESH_CONFIG
    """Where the mesh's settings are: each revision has its own."""
    selected: bool = False
    """Whether the source leaves out the namespaces that ``discoverySelectors`` do not choose."""
    key_sets: KeySets = field(default_factory=dict)
    """Keys of token issuers as they were last fetched."""
    shared_mesh_config: ConfigKey | None = None
    """Where settings are that hold where the mesh's own say nothing."""
    secret_readers: Readers = None
    """Service accounts that may have Secrets of their namespace; None: all."""
    taken: dt.datetime | None = None
    """When; None where nobody asks which certificates are over."""
    gateway_addresses: Addresses = field(default_factory=dict)
    """What the DNS names of gateways of networks stood for when they were last looked up."""

    def of(self, group: str, kind: str) -> Mapping[ConfigKey, Object]:
        """All objects of a kind, in no promised order."""
        return self.kinds.get((group, kind), {})

    def get(self, key: ConfigKey) -> Object | None:
        """One object, or None."""
        return self.of(key.group, key.kind).get(key)

    def __iter__(self) -> Iterator[Object]:
        for objects in self.kinds.values():
            yield from objects.values()


class ConfigStore:
    """Objects by key. ``listener`` is told each key that changed, once per change, in the caller's thread.

    ``features`` are what the operator switched on for the whole process; the rest is as in a snapshot.
    """

    def __init__(
        self,
        listener: Listener | None = None,
        features: Features | None = None,
        mesh_config: ConfigKey = MESH_CONFIG,
        *,
        selected: bool = False,
        shared_mesh_config: ConfigKey | None = None,
        secret_readers: Readers = None,
    ) -> None:
        self._now: Callable[[], dt.datetime | None] = lambda: None
        self._kinds: dict[Kind, dict[ConfigKey, Object]] = {}
        self._frozen: dict[Kind, Mapping[ConfigKey, Object]] = {}
        self._listener = listener
        self._features = features or DEFAULTS
        self._mesh_config = mesh_config
        self._selected = selected
        self._key_sets: KeySets = MappingProxyType({})
        self._shared = shared_mesh_config
        self._readers = secret_readers
        self._gateway_addresses: Addresses = MappingProxyType({})

    def listen(self, listener: Listener) -> None:
        """Tell ``listener`` of every change from now on (one listener: the pipeline)."""
        self._listener = listener

    def keep_time(self, now: Callable[[], dt.datetime]) -> None:
        """Say in snapshots when they were taken."""
        self._now = now

    def apply(self, item: Object, *, compared: bool = False) -> bool:
        """Take an object as it is now; False when the store had an equal one.

        ``compared``: the caller knows that an equal one would be the same (to compare large objects takes its time).
        """
        key = item.key
        objects = self._kinds.setdefault((key.group, key.kind), {})
        known = objects.get(key)
        if known is item or (not compared and known == item):
            return False
        objects[key] = item
        self._changed(key)
        return True

    def remove(self, key: ConfigKey) -> bool:
        """Forget an object; False when there was none."""
        if self._kinds.get((key.group, key.kind), {}).pop(key, None) is None:
            return False
        self._changed(key)
        return True

    def get(self, key: ConfigKey) -> Object | None:
        """One object as it is now, or None."""
        return self._kinds.get((key.group, key.kind), {}).get(key)

    def of(self, group: str, kind: str) -> Mapping[ConfigKey, Object]:
        """The objects of a kind as they are now: the same mapping again while none of them changed."""
        found = self._frozen.get((group, kind))
        if found is None:
            found = self._frozen[group, kind] = MappingProxyType(dict(self._kinds.get((group, kind), {})))
        return found

    def keys(self) -> Iterator[ConfigKey]:
        """Every key in the store."""
        for objects in self._kinds.values():
            yield from objects

    def has(self, key: ConfigKey) -> bool:
        """Whether an object is in the store."""
        return key in self._kinds.get((key.group, key.kind), {})

    def snapshot(self) -> ConfigSnapshot:
        """The objects as they are now; later changes do not reach it."""
        for kind in self._kinds:
            self.of(*kind)
        return ConfigSnapshot(
            MappingProxyType(dict(self._frozen)),
            self._features,
            self._mesh_config,
            self._selected,
            self._key_sets,
            self._shared,
            self._readers,
            self._now(),
            self._gateway_addresses,
        )

    def put_key_set(self, source: KeySource, keys: str | None) -> bool:
        """Take a fetched key set, None where there is none any more; False when the store had an equal one."""
        if self._key_sets.get(source) == keys:
            return False
        others = {known: text for known, text in self._key_sets.items() if known != source}
        self._key_sets = MappingProxyType(others if keys is None else {**others, source: keys})
        if self._listener is not None:
            self._listener(key_sets.CHANGED)
        return True

    def put_secret_readers(self, readers: Readers) -> bool:
        """Take who may have Secrets from now on; False when the store had the same."""
        if self._readers == readers:
            return False
        self._readers = readers
        if self._listener is not None:
            self._listener(secret_rights.CHANGED)
        return True

    def put_gateway_addresses(self, name: str, addresses: tuple[str, ...] | None) -> bool:
        """Take what a gateway's name stands for, None where nobody asks any more; False when it is the same."""
        if self._gateway_addresses.get(name) == addresses:
            return False
        others = {known: found for known, found in self._gateway_addresses.items() if known != name}
        self._gateway_addresses = MappingProxyType(others if addresses is None else {**others, name: addresses})
        if self._listener is not None:
            self._listener(gateway_names.CHANGED)
        return True

    def _changed(self, key: ConfigKey) -> None:
        self._frozen.pop((key.group, key.kind), None)
        if self._listener is not None:
            self._listener(key)

"""A response, and its bytes: the resources' frames, then the stream's own few bytes (DESIGN section 4).

No protobuf object is made: the fields are written here, by number, from Envoy's discovery.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from istiod.ads import bundle
from istiod.ads.bundle import Bundle
from istiod.config.resource import Resource, delimited

_VERSION: Final = b"\x0a"
"""version_info, and system_version_info of delta: field 1."""
_TYPE_URL: Final = b"\x22"
"""Field 4 of both."""
_NONCE: Final = b"\x2a"
"""Field 5 of both."""
_REMOVED: Final = b"\x32"
"""removed_resources of delta: field 6."""


@lru_cache(maxsize=64)
def _typed(type_url: str) -> bytes:
    return delimited(_TYPE_URL, type_url.encode())


@dataclass(frozen=True, slots=True)
class Send:
    """One response. ``removed`` is told by delta only; state of the world tells it by leaving out.

    ``whole`` are the resources as a bundle, where they are one.
    """

    type_url: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    nonce: str
    delta: bool
    whole: Bundle | None = None

    def encode(self) -> tuple[bytes, ...]:
        """A DeltaDiscoveryResponse or DiscoveryResponse in parts, which other streams send as well: no copy is made."""
        nonce = self.nonce.encode()
        tail = _typed(self.type_url) + delimited(_NONCE, nonce) + delimited(_VERSION, nonce)
        if self.delta and self.removed:
            tail = b"".join([*(delimited(_REMOVED, name.encode()) for name in self.removed), tail])
        if self.whole is not None:
            return (*self.whole.frames(delta=self.delta), tail)
        return (*bundle.frames(self.resources, delta=self.delta), tail)

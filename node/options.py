"""What kind of mesh to bring up."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crds.diagnostic import Diagnostic
from node import home
from node.backoff import Backoff
from node.images import Image


def _complain(diagnostic: Diagnostic) -> None:
    """Print a finding where programs complain."""
    print(diagnostic, file=sys.stderr)  # noqa: T201 (the default for whoever gives no other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What kind of mesh. ``name`` "" takes a new one, so that any number of meshes can be up at once."""

    name: str = ""
    root: pathlib.Path = home.DEFAULT_ROOT
    namespace: str = "default"
    """Where objects go that name no namespace."""
    control_plane: bool = True
    gateway: bool = True
    """Bring an ingress gateway (needs the control plane)."""
    istiod: tuple[str, ...] = ()
    """Further arguments of ``istiod discovery``."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables of istiod's container."""
    images: Mapping[str, Image] = field(default_factory=dict)
    """More images, by short name."""
    grace: float = 3.0
    """Seconds that pods get when the whole mesh ends."""
    backoff: Backoff = field(default_factory=Backoff)
    """How long containers that end wait before they start again."""
    notice: float = 0.2
    """Seconds between telling that a ready pod is leaving and its SIGTERM, so that proxies hear of it first."""
    complain: Callable[[Diagnostic], None] = _complain

"""Envoy's /config_dump, /clusters and /server_info as JSON, and the lists that commands show of them.

What is warming or refused is left to ``-o json`` of ``all``; here is what serves.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from istioctl import camel
from istioctl.errors import CommandError
from wire import node as nodes

Json = Mapping[str, Any]
ADMIN = "type.googleapis.com/envoy.admin.v3."
_ANY_ADMIN = "type.googleapis.com/envoy.admin."


@dataclass(frozen=True, slots=True)
class Dump:
    """A parsed configuration dump of ``name``; ``sections`` are by type, such as ``ClustersConfigDump``."""

    sections: Mapping[str, Json]
    whole: Json
    name: str = ""

    def owner(self) -> str:
        """POD.NAMESPACE of the proxy, as its node says; "" where the dump does not say."""
        said = str(self.section("BootstrapConfigDump").get("bootstrap", {}).get("node", {}).get("id", ""))
        try:
            _, _, name, namespace, _ = nodes.parse_id(said)
        except ValueError:
            return ""
        return f"{name}.{namespace}" if namespace else name

    def section(self, name: str) -> Json:
        """A section, empty where Envoy has nothing of it."""
        return self.sections.get(name, {})

    def clusters(self) -> list[Json]:
        """Active clusters, static ones too."""
        held = self.section("ClustersConfigDump")
        parts = ("dynamic_active_clusters", "static_clusters")
        return [each["cluster"] for part in parts for each in held.get(part, ()) if "cluster" in each]

    def listeners(self) -> list[Json]:
        """Active listeners, static ones too."""
        held = self.section("ListenersConfigDump")
        active = (each.get("active_state") or {} for each in held.get("dynamic_listeners", ()))
        found = [*active, *held.get("static_listeners", ())]
        return [each["listener"] for each in found if "listener" in each]

    def routes(self) -> list[Json]:
        """Route configurations, those inside of listeners too."""
        held = self.section("RoutesConfigDump")
        parts = ("dynamic_route_configs", "static_route_configs")
        return [each["route_config"] for part in parts for each in held.get(part, ()) if "route_config" in each]

    def endpoints(self) -> list[Json]:
        """Cluster load assignments; there only in a dump ``?include_eds``."""
        held = self.section("EndpointsConfigDump")
        parts = ("dynamic_endpoint_configs", "static_endpoint_configs")
        return [each["endpoint_config"] for part in parts for each in held.get(part, ()) if "endpoint_config" in each]

    def secrets(self) -> Iterator[tuple[Json, str]]:
        """(secret's entry, its state) of those that came over SDS."""
        held = self.section("SecretsConfigDump")
        yield from ((each, "ACTIVE") for each in held.get("dynamic_active_secrets", ()))
        yield from ((each, "WARMING") for each in held.get("dynamic_warming_secrets", ()))


@contextlib.contextmanager
def legible(file: str) -> Iterator[None]:
    """Around what shows a dump: of a ``file`` any part may be of another form than Envoy gives it. "" is Envoy itself.

    Raises:
        CommandError: some part is.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        if not file:
            raise
        raise CommandError(f"{file}: a part of it has not the form that Envoy gives it: {error!r}") from error


def parse(text: str | bytes, origin: str) -> Dump:
    """A dump as Envoy, ``pilot-agent request GET config_dump`` or ``proxy-config all -o json`` give it.

    Raises:
        CommandError: it is no JSON, or no dump; names ``origin``.
    """
    whole = _json(text, origin)
    configs = whole.get("configs") if isinstance(whole, dict) else None
    if not isinstance(configs, list) or not all(isinstance(each, dict) for each in configs):
        raise CommandError(f'{origin}: not a configuration dump of Envoy (no list "configs" of objects)')
    if not any("dynamic_" in key or "static_" in key for each in whole["configs"] for key in each):
        whole = camel.restored(whole)
    sections = {_section(each, origin): each for each in whole["configs"]}
    return Dump(sections, whole, origin)


def _json(text: str | bytes, origin: str) -> Any:
    if not text.strip():
        raise CommandError(f"{origin}: nothing is in it")
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise CommandError(f"{origin}: not JSON, no text at all (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{origin}: not JSON: {error}") from error


def _section(each: Json, origin: str) -> str:
    """The section's kind. One that would be passed over as if it were empty is refused."""
    said = str(each.get("@type", ""))
    kind = said.removeprefix(ADMIN)
    if kind.startswith(_ANY_ADMIN):
        version = kind.removeprefix(_ANY_ADMIN).partition(".")[0]
        raise CommandError(f"{origin}: written by an Envoy whose API was {version}; only v3 is known")
    if kind != said and "." in kind:
        raise CommandError(f"{origin}: only a part of a dump ({kind}); save /config_dump as a whole")
    return kind

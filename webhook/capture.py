"""The container istio-init: traffic annotations -> arguments of istio-iptables (features S26, S29, B3 to B7). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from webhook import annotations as notes
from webhook import proxy
from webhook.decision import part
from webhook.draft import INIT, Draft
from webhook.settings import Json
from wire import names

VALIDATION: Final = "istio-validation"


def container(draft: Draft) -> Json:
    """The init container that programs the rules; with a network plugin, the one that sees that they work."""
    name, security = (VALIDATION, _without_rights(draft)) if draft.config.cni else (INIT, _WITH_RIGHTS)
    made: Json = {
        "name": name,
        "image": draft.init_image,
        "args": ["istio-iptables", *arguments(draft)],
        "resources": proxy.resources(draft),
        "securityContext": {
            "allowPrivilegeEscalation": draft.config.privileged,
            "privileged": draft.config.privileged,
            **security,
        },
    }
    if draft.config.seccomp:
        made["securityContext"] = {**part(made, "securityContext"), "seccompProfile": dict(draft.config.seccomp)}
    if draft.config.image_pull_policy:
        made["imagePullPolicy"] = draft.config.image_pull_policy
    if draft.proxy_metadata:  # flags have environment variables too, such as ISTIO_META_DNS_CAPTURE
        made["env"] = [{"name": name, "value": value} for name, value in draft.proxy_metadata.items()]
    return made


_WITH_RIGHTS: Final[Json] = {
    "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
    "readOnlyRootFilesystem": False,
    "runAsGroup": 0,
    "runAsNonRoot": False,
    "runAsUser": 0,
}
"""Root, with the two capabilities that the rules need, and no other (S26)."""


def _without_rights(draft: Draft) -> Json:
    """As the proxy's user: its traffic must reach what listens there as the proxy's does."""
    user, group = draft.ids if draft.mode == "TPROXY" else (draft.uid, draft.gid)
    return {
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsGroup": group,
        "runAsNonRoot": True,
        "runAsUser": user,
    }


def scope(draft: Draft) -> Mapping[str, str]:
    """What is redirected, by the names of annotations; "" is not said."""
    chart, prefix = draft.config.capture, notes.TRAFFIC
    defaults = {
        "includeOutboundIPRanges": chart.include_ip_ranges,
        "excludeOutboundIPRanges": chart.exclude_ip_ranges,
        "includeInboundPorts": chart.include_inbound_ports,
        "excludeInboundPorts": chart.exclude_inbound_ports,
        "includeOutboundPorts": chart.include_outbound_ports,
        "excludeOutboundPorts": chart.exclude_outbound_ports,
        "kubevirtInterfaces": "",
        "excludeInterfaces": "",
    }
    said = {name: draft.note(f"{prefix}{name}", default) for name, default in defaults.items()}
    return {**said, "excludeInboundPorts": _and_port(said["excludeInboundPorts"], draft.status_port)}


def _and_port(excluded: str, port: int) -> str:
    """The ports that are not redirected, and the agent's among them."""
    given = [each.strip() for each in excluded.split(",") if each.strip()]
    return excluded if not port or str(port) in given else ",".join([*given, str(port)])


def arguments(draft: Draft) -> list[object]:
    """Arguments of istio-iptables, in the order of Istio's template."""
    config, said = draft.config, scope(draft)
    excluded = [str(names.PROMETHEUS_PORT), str(names.READINESS_PORT), *filter(None, [said["excludeInboundPorts"]])]
    made: list[object] = ["-p", str(config.outbound_port), "-z", str(config.inbound_port)]
    made += ["-u", str(draft.uid), "-m", draft.mode]
    made += ["-i", said["includeOutboundIPRanges"], "-x", said["excludeOutboundIPRanges"]]
    made += ["-b", said["includeInboundPorts"], "-d", ",".join(excluded)]
    optional = (
        ("-q", f"{notes.TRAFFIC}includeOutboundPorts", said["includeOutboundPorts"]),
        ("-o", f"{notes.TRAFFIC}excludeOutboundPorts", said["excludeOutboundPorts"]),
        ("-k", notes.REROUTE, draft.note(notes.REROUTE, said["kubevirtInterfaces"])),
        ("-c", f"{notes.TRAFFIC}excludeInterfaces", said["excludeInterfaces"]),
    )
    for flag, name, value in optional:
        made += [flag, value] if value or name in draft.annotations else []
    made.append(f"--log_output_level={draft.note(f'{notes.SIDECAR}agentLogLevel', config.agent_log_level)}")
    made += ["--log_as_json"] if config.log_as_json else []
    return [*made, "--run-validation", "--skip-rule-apply"] if config.cni else made

"""The container istio-init: traffic annotations -> arguments of istio-iptables (features S26, S29, B3 to B7). Pure."""

from __future__ import annotations

from webhook import annotations as notes
from webhook import proxy
from webhook.draft import INIT, Draft
from webhook.settings import Json
from wire import names


def container(draft: Draft) -> Json:
    """The init container that programs the rules: root, with the two capabilities that needs, and no other."""
    made: Json = {
        "name": INIT,
        "image": draft.image,
        "args": ["istio-iptables", *arguments(draft)],
        "resources": proxy.resources(draft),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": False,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
    }
    if draft.config.image_pull_policy:
        made["imagePullPolicy"] = draft.config.image_pull_policy
    if draft.proxy_metadata:  # flags have environment variables too, such as ISTIO_META_DNS_CAPTURE
        made["env"] = [{"name": name, "value": value} for name, value in draft.proxy_metadata.items()]
    return made


def arguments(draft: Draft) -> list[object]:
    """Arguments of istio-iptables, in the order of Istio's template."""
    chart, prefix = draft.config.capture, notes.TRAFFIC
    excluded = [str(names.PROMETHEUS_PORT), str(names.READINESS_PORT)]
    excluded += filter(None, draft.note(f"{prefix}excludeInboundPorts", chart.exclude_inbound_ports).split(","))
    excluded.append(str(draft.status_port))
    made: list[object] = ["-p", str(names.PROXY_OUTBOUND_PORT), "-z", str(names.PROXY_INBOUND_PORT)]
    made += ["-u", str(draft.uid), "-m", draft.mode]
    made += ["-i", draft.note(f"{prefix}includeOutboundIPRanges", chart.include_ip_ranges)]
    made += ["-x", draft.note(f"{prefix}excludeOutboundIPRanges", chart.exclude_ip_ranges)]
    made += ["-b", draft.note(f"{prefix}includeInboundPorts", chart.include_inbound_ports)]
    made += ["-d", ",".join(excluded)]
    virtual = draft.note(f"{prefix}kubevirtInterfaces", "")
    optional = (
        ("-q", draft.note(f"{prefix}includeOutboundPorts", chart.include_outbound_ports)),
        ("-o", draft.note(f"{prefix}excludeOutboundPorts", chart.exclude_outbound_ports)),
        ("-k", draft.note(notes.REROUTE, virtual)),
        ("-c", draft.note(f"{prefix}excludeInterfaces", "")),
    )
    for flag, value in optional:
        made += [flag, value] if value else []
    agent_log = draft.note(f"{notes.SIDECAR}agentLogLevel", draft.config.agent_log_level)
    return [*made, f"--log_output_level={agent_log}"]

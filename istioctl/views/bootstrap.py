"""``proxy-config bootstrap -o short``: the versions."""

from __future__ import annotations

from istioctl.dump import Json


def short(section: Json) -> str:
    """Three lines as istioctl has them; what is not known is empty."""
    node = section.get("bootstrap", {}).get("node", {})
    build = node.get("user_agent_build_version", {})
    number = build.get("version", {})
    envoy = ".".join(str(number.get(part, 0)) for part in ("major_number", "minor_number", "patch"))
    return (
        f"Istio Version:       {node.get('metadata', {}).get('ISTIO_VERSION', '')}\n"
        f"Istio Proxy Version: {build.get('metadata', {}).get('revision.sha', '')}\n"
        f"Envoy Version:       {envoy}\n"
    )

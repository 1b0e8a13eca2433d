"""Every field that the mesh honours is shown by a case, or stands here with a reason, or as one that waits for a case.

Which fields are honoured is crds.unhonoured's to say: all but those of its rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import yaml

from crds import unhonoured
from tests.behaviour import catalogue
from tests.behaviour.case import fold, shown
from tests.generated.test_unhonoured import KINDS, leaves

ELSEWHERE: Mapping[str, str] = {
    r"VirtualService spec\.http\[\]\.(name|match\[\]\.name)": "is a name; only access logs and EnvoyFilters see it",
    r"Gateway spec\.servers\[\](\.port)?\.name": "is a name",
    r"(ServiceEntry|Sidecar) spec\.(ports|ingress|egress)\[\](\.port)?\.name": "is a name",
    r"MeshConfig (defaultConfig|discoverySelectors|enablePrometheusMerge|extensionProviders).*": (
        "is for the agent, injection, the watch or a policy: tests/agent, tests/webhook, tests/watch, tests/envoy"
    ),
    r"MeshConfig defaultProviders(\.tracing)?": "is for spans, which need collectors: tests/behaviour/test_tracing",
    r"MeshConfig (defaultProviders\.accessLogging|disableEnvoyListenerLog)": (
        "is for logs of calls, which need their readers: tests/behaviour/test_access_logs"
    ),
    r"MeshConfig defaultProviders\.metrics": "is for scrapes: tests/behaviour/test_metric_overrides",
    r"Telemetry spec\.accessLogging.*": "is for logs, which need their readers: tests/behaviour/test_access_logs",
    r"Telemetry spec\.metrics.*": "is for scrapes: tests/behaviour/test_metric_overrides",
    r"Telemetry spec\.tracing.*": "is for spans, which need collectors: tests/behaviour/test_tracing",
    r"Telemetry spec\.selector.*": "is shown by logs and spans: tests/behaviour/test_access_logs",
    r"Telemetry spec\.targetRefs?.*": "has no effect, which the object is told as a whole: tests/mesh/test_telemetry",
    r"MeshConfig defaultInboundHttpRetryPolicy\.retryRemoteLocalities": (
        "has nowhere to turn to, an app is in one place: tests/mesh/test_rule_parts"
    ),
    r".*warmupDurationSecs": "is the older name of warmup.duration: tests/mesh/test_destination_rules",
    r"MeshConfig inboundTrafficPolicy.*": "is for captured traffic, here is none: tests/story/test_traffic_types",
    r"MeshConfig ingressControllerMode": (
        "is for what is not there, and found where it asks for it: tests/mesh/test_mesh_config"
    ),
    r"Sidecar spec\.egress\[\]\.captureMode": "is for proxies that capture, the rig's do not: tests/mesh/test_egress",
    r"Sidecar spec\.ingress\[\]\.tls\.(httpsRedirect|credentialNames?|subjectAltNames|tlsCertificates.*)": (
        "is refused, as on Istio: tests/crds/test_checks"
    ),
    r"EnvoyFilter .*\.listener\.filterChain\.(name|destinationPort)": (
        "are of chains for captured traffic only: tests/envoy/test_patched_listeners"
    ),
}
"""Fields that traffic of the rig cannot tell, and why."""

YET = r"""
"""
"""Fields that wait for their case, as patterns."""


def honoured() -> Iterator[str]:
    for kind, model in KINDS.items():
        rows = [row for row in unhonoured.ROWS if row.kind == kind and not row.when]
        for path, _, _ in leaves(model):
            if (kind == "MeshConfig" or path.startswith("spec.")) and not any(row.covers(path) for row in rows):
                yield f"{kind} {path}"


def cases() -> set[str]:
    """The fields that some case shows, and what holds them."""
    found: set[str] = set()
    for case in catalogue.CASES:
        documents = list(yaml.safe_load_all(re.sub(r"\$\w+", "1", case.objects)))
        for one in shown(case, [document for document in documents if document]):
            for whole in (one.folded, f"{one.kind} {one.path}"):
                kind, _, path = whole.partition(" ")
                steps = path.split(".")
                for count in range(1, len(steps) + 1):
                    found.add(f"{kind} {'.'.join(steps[:count]).removesuffix('[]')}")
    return found


def test_every_field_has_a_case_or_a_reason() -> None:
    shown_ones, waiting = cases(), [line for line in YET.split("\n") if line]
    bare = {
        fold(field)
        for field in honoured()
        if fold(field) not in shown_ones
        and not any(re.fullmatch(pattern, fold(field)) for pattern in (*ELSEWHERE, *waiting))
    }
    assert sorted(bare) == []


def test_what_waits_for_a_case_has_none() -> None:
    shown_ones, fields = cases(), {fold(field) for field in honoured()}
    for pattern in (line for line in YET.split("\n") if line):
        matched = {field for field in fields if re.fullmatch(pattern, field)}
        assert matched, f"{pattern} names no field that is honoured"
        assert not matched & shown_ones, pattern


def test_names_of_cases_are_their_own() -> None:
    names = [case.name for case in catalogue.CASES]
    assert sorted(set(names)) == sorted(names)

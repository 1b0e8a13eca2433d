"""Access logs of connections without HTTP: they name the policy that refused one."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.rig import Rig

CASES = Cases()
LINES = """
kind: Sidecar
metadata: {name: server}
spec:
  workloadSelector: {labels: {app: server}}
  ingress:
  - {port: {number: $intcp, protocol: TCP, name: tcp}, bind: 127.0.0.1, defaultEndpoint: "127.0.0.1:$locallines"}
  egress: [{hosts: ["~/*"]}]
---
kind: AuthorizationPolicy
metadata: {name: %s}
spec:
  selector: {matchLabels: {app: server}}
  action: %s
  rules:
  - from: [{source: {ipBlocks: [127.9.0.1]}}]
  - from: [{source: {ipBlocks: [127.9.0.2]}}]
---
kind: MeshConfig
spec: {accessLogFile: $certs/%s.log}
"""


def _lines(rig: Rig, log: str) -> list[str]:
    return (rig.folder / f"{log}.log").read_text().splitlines()


def _policy(action: str, log: str, passes: str, refused: str, reason: str) -> None:
    async def check(rig: Rig) -> None:
        assert await rig.line("intcp", source=passes) == "local:hello"
        assert await rig.line("intcp", source=refused) == ""
        await rig.logged(f"{log}.log", reason)
        lines = [line for line in _lines(rig, log) if reason in line]
        assert [refused in line for line in lines] == [True]

    check.__name__ = f"a_connection_that_a_policy_refuses_names_it_in_the_log_{action.lower()}"
    CASES(LINES % ("closed", action, log), r".*")(check)


_policy(
    "DENY", "denied", "127.9.0.3", "127.9.0.2", "rbac_access_denied_matched_policy[ns[default]-policy[closed]-rule[1]]"
)
_policy("ALLOW", "allowed", "127.9.0.2", "127.9.0.3", "rbac_access_denied_matched_policy[none]")

"""``x authz check`` on what a real Envoy says of policies."""

from __future__ import annotations

from pathlib import Path

import pytest

from istioctl import __main__ as program
from istioctl.views import authorizations
from tests.envoy import guarded, made
from tests.envoy.guarded import Certificates, Guard
from tests.envoy.test_real_authorization import GET, ON_X, policy, said


def test_rules_of_one_policy_are_counted_once_for_all_ports() -> None:
    names = {f"ns[a]-policy[b]-rule[{number}]": {} for number in (0, 2)}
    config = {
        "rules": {"policies": names},
        "shadow_rules": {"action": "DENY", "policies": {"ns[a]-policy[c]-rule[0]": {}}},
    }
    tcp = {"name": "envoy.filters.network.rbac", "typed_config": config}
    asked = {"shadow_rules": {"action": "DENY", "policies": {"istio-ext-authz-p-ns[a]-policy[d]-rule[0]": {}, "x": {}}}}
    http = {"http_filters": [{"name": "envoy.filters.http.rbac", "typed_config": asked}, {"name": "router"}]}
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": http}
    chains = [{"filters": [tcp, {"name": "tcp_proxy"}]}, {"filters": [tcp, manager]}]
    assert authorizations.rows([{"filter_chains": chains}, {}]) == [
        ("CUSTOM", "d.a", "1"),
        ("DENY (dry run)", "c.a", "1"),
        ("ALLOW", "b.a", "2"),
    ]


@pytest.mark.envoy
async def test_the_policies_of_a_real_envoy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies = (policy("no-x", action="DENY", rules=[ON_X, GET]), policy("all", rules=[{}]), policy("none"))
    (port,) = guarded.ports(1)
    certificates = Certificates(tmp_path)
    async with guarded.running([Guard(port=port, said=said(*policies))], certificates, made.QUIET):
        held = await guarded.admin(certificates, "/config_dump")
    saved = tmp_path / "dump.json"
    saved.write_text(held)
    assert program.main(["x", "authz", "check", "-f", str(saved)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ACTION   AuthorizationPolicy   RULES",
        "DENY     no-x.foo              2",
        "ALLOW    all.foo               1",
        "ALLOW    none.foo              1",
    ]

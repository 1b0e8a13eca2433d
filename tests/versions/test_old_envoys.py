"""Three releases of Envoy under one istiod (FT51): none refuses, none is sent what it ignores, all decide alike.

``--mode validate`` refuses a field that it does not know in what is static, so the generated configurations show both
of the first. Those of the tests that run with an Envoy of the lock are the third release.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
from pathlib import Path

import envoy
import pytest
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from google.protobuf import descriptor_pool

from istiod.envoy import since, wellknown
from istiod.envoy.filters import peer
from istiod.mesh.envoy_release import Release
from istiod.mesh.settings import MeshSettings
from tests import envoys
from tests.behaviour import catalogue, rig
from tests.envoy import made, test_hostile_objects, test_real_alpn, test_real_authorization, test_real_envoy
from tests.envoy.policy_oracle import Request
from tests.generated import test_generated
from tests.versions import descriptors, old_envoys
from wire import telemetry

pytestmark = [pytest.mark.envoy, pytest.mark.long, pytest.mark.timeout(3600)]
RELEASES = {"1.36.4": Release.V1_36, "1.38.3": Release.V1_38}
ELSEWHERE = ("envoy.admin.", "envoy.config.bootstrap.", "envoy.config.metrics.", "envoy.data.", "envoy.service.")
"""What is in no listener, cluster or route."""
LACKING = {"a_budget_of_retries_counts_what_was_before"}
"""Cases about a field that both older releases do without, which is told (M0126)."""


@pytest.fixture(params=old_envoys.VERSIONS)
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An older Envoy, which all of the test runs with."""
    monkeypatch.setenv("TEST_ENVOY", str(old_envoys.path(request.param)))
    return str(request.param)


def test_a_version_is_taken_for_its_release(version: str) -> None:
    assert envoys.release() is RELEASES[version]


def test_the_table_has_every_field_that_it_does_not_know(version: str) -> None:
    known = descriptors.of(old_envoys.path(version))
    assert len(known) > 1000  # else nothing was read
    lacking = {}
    for name, numbers in ours().items():
        if name in known and (missing := set(numbers.values()) - known[name]):
            lacking[name] = {field for field, number in numbers.items() if number in missing}
    assert lacking == {name: set(fields) for name, fields in since.UNKNOWN_FIELDS[RELEASES[version]].items()}
    for name, unnamed in since.UNNAMED.items():
        assert not unnamed.keys() & known[name]
    assert all((name in known) is (release <= RELEASES[version]) for name, release in since.LOGGERS.items())


def ours() -> dict[str, dict[str, int]]:
    """The fields of every message that our library has, but of those in ``ELSEWHERE``."""
    pool, found = descriptor_pool.Default(), {}
    for module in pkgutil.walk_packages(envoy.__path__, "envoy."):
        if module.name.endswith("_pb2") and not module.name.startswith(ELSEWHERE):
            file = importlib.import_module(module.name).DESCRIPTOR
            waiting = list(file.message_types_by_name.values())
            while waiting:
                message = waiting.pop()
                waiting += message.nested_types
                found[message.full_name] = {field.name: field.number for field in message.fields}
    assert pool.FindMessageTypeByName("envoy.config.cluster.v3.Cluster").full_name in found
    return found


def test_the_table_has_the_operators_that_it_does_not_know(version: str, tmp_path: Path) -> None:
    unknown = since.UNKNOWN_OPERATORS[RELEASES[version]]
    every = since.UNKNOWN_OPERATORS[Release.V1_36]
    assert {name for name in sorted(every) if not takes(envoys.binary(), name, tmp_path)} == unknown


def takes(binary: str, operator: str, folder: Path) -> bool:
    """Whether an Envoy knows an operator of formats, in one of its forms."""
    return any(valid(binary, f"%{operator}{about}%", folder) for about in ("", "(PEER)"))


def valid(binary: str, line: str, folder: Path) -> bool:
    log = file_pb2.FileAccessLog(path="/dev/null")
    log.log_format.text_format_source.inline_string = line
    proxy = tcp_proxy_pb2.TcpProxy(cluster="c", stat_prefix="c")
    proxy.access_log.append(accesslog_pb2.AccessLog(name="file", typed_config=wellknown.packed(log)))
    config = bootstrap_pb2.Bootstrap()
    listener = config.static_resources.listeners.add(name="l")
    listener.address.socket_address.address, listener.address.socket_address.port_value = "127.0.0.1", 1
    listener.filter_chains.add().filters.add(name="f").typed_config.CopyFrom(wellknown.packed(proxy))
    config.static_resources.clusters.add(name="c")
    (folder / "bootstrap.pb").write_bytes(config.SerializeToString())
    command = [binary, "--mode", "validate", "-l", "off", "-c", str(folder / "bootstrap.pb")]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


@pytest.mark.usefixtures("version")
def test_it_takes_whatever_is_made_of_600_configurations(tmp_path: Path) -> None:
    assert list(test_generated.problems(range(400), tmp_path)) == []
    assert list(test_generated.problems(range(20_000, 20_200), tmp_path, full=0.7, odd=0.05)) == []


@pytest.mark.usefixtures("version")
def test_validation_would_have_said_that_it_ignores_a_field(tmp_path: Path) -> None:
    found = test_hostile_objects.together([])
    found.static_resources.clusters.add(name="x").circuit_breakers.thresholds.add().retry_budget.MergeFromString(
        b"\x1a\x02\x08\x01"  # budget_interval
    )
    code, said = test_real_envoy.verdict(found, tmp_path)
    assert code != 0
    assert "unknown fields" in said


@pytest.mark.parametrize("seed", range(1, 6))
async def test_policies_decide_alike(version: str, seed: int, tmp_path: Path) -> None:
    """But of a header with several lines, which 1.36.4 cannot tell apart: it lets in less then, never more."""
    wrong, refused, let_in = await test_real_authorization.compared(tmp_path, seed, 100)
    assert min(refused, let_in) > 400
    if RELEASES[version] < since.LINES_APART:
        wrong = [each for each in wrong if each[0] != 403 or not joined(each[1].headers)]
    assert wrong == []


@pytest.mark.usefixtures("version")
async def test_a_byte_that_is_no_text_passes_no_rule_that_refuses(tmp_path: Path) -> None:
    """To their RE2 ``.`` is no such byte, and what refuses was widened with it."""
    keys = [f"request.headers[{name}]" for name in ("x-exact", "x-pre", "x-suf")]
    keys.append("request.experimental.inline.headers[x-in]")
    values = ["admin", "admin*", "*admin", "admin"]
    rules = [{"when": [{"key": key, "values": [value]}]} for key, value in zip(keys, values, strict=True)]
    byte = "\udcff"  # 0xff, as Python writes what is not UTF-8
    refused = [
        (("x-exact", "admin"), ("x-exact", byte)),
        (("x-exact", byte), ("x-exact", "admin")),
        (("x-pre", f"admin{byte}"),),
        (("x-suf", f"{byte}admin"),),
        (("x-in", f"{byte},admin"),),
    ]
    others = [(("x-exact", f"root{byte}"),), (("x-pre", f"{byte}root"),), ()]
    requests = [Request(host="a", headers=each) for each in (*refused, *others)]
    deny = test_real_authorization.policy("no-admin", action="DENY", rules=rules)
    found = await test_real_authorization.asked(tmp_path, requests, made.QUIET, deny)
    assert found == [403] * len(refused) + [200] * len(others)


@pytest.mark.usefixtures("version")
async def test_no_client_puts_free_text_into_labels(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    parts = (peer.CLIENT, "protocol")
    format_ = " ".join(f"%DYNAMIC_METADATA({peer.NAMESPACE}:{each})%" for each in parts) + "\n"
    settings = MeshSettings(access_log_file=str(log), access_log_format=format_, enable_tracing=False)
    caller = "cluster.local/ns/shop/sa/web"
    lies = ("\udcff", "a;b;c;d;e;f;\udcff", "|spiffe://cluster.local/ns/other/sa/x|unknown")
    requests = [
        Request(host="a", identity=caller, headers=((telemetry.HEADER, lie), ("content-type", "\udcffrandom")))
        for lie in lies
    ]
    assert await test_real_authorization.asked(tmp_path, requests, settings) == [200] * len(lies)
    assert log.read_text().splitlines() == ["- -"] * len(lies)


@pytest.mark.usefixtures("version")
async def test_a_route_chosen_anew_says_what_is_offered(tmp_path: Path) -> None:
    await test_real_alpn.test_a_gateway_offers_protocols_by_the_route_that_a_token_leads_to(tmp_path)


def joined(headers: tuple[tuple[str, str], ...]) -> bool:
    return len(headers) > 1 or any("," in value for _, value in headers)


@pytest.mark.usefixtures("version")
async def test_traffic_is_what_the_objects_say(tmp_path: Path) -> None:
    failed = {}
    async with rig.running(tmp_path) as mesh:
        for case in catalogue.CASES:
            mesh.servers.forget()
            try:
                await mesh.settle(mesh.read(case.objects))
                await case.check(mesh)
            except AssertionError as error:
                failed[case.name] = str(error)[:500]
    assert len(catalogue.CASES) > 200
    assert {name: why for name, why in failed.items() if name not in LACKING} == {}

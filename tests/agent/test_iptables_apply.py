"""agent/iptables/apply.py on real iptables in fresh network namespaces."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from agent.iptables import apply, flags, probe, tools
from agent.iptables.capture import Capture, Mode
from tests.agent import netns
from tests.agent.netns import Namespace

CASES = Path(os.environ.get("CONFORMANCE", "../shared/conformance")) / "iptables" / "cases"
CAPTURE_ALL = ("-i", "*", "-b", "*", "-d", "15090,15021,15020", "-u", "1337")
root = pytest.mark.root


@pytest.fixture
def space() -> Iterator[Namespace]:
    with netns.namespace() as fresh:
        yield fresh


def run(space: Namespace, *args: str, **env: str) -> str:
    """In this process, so that coverage sees it; the namespace is entered by the flag for it."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said), redirect_stdout(io.StringIO()):
        for name, value in env.items():
            patch.setenv(name, value)
        status = apply.main([*args, "--network-namespace", space.path])
    assert status == 0, said.getvalue()
    return said.getvalue()


@root
def test_a_second_run_changes_nothing(space: Namespace) -> None:
    assert "rules programmed" in run(space, *CAPTURE_ALL, "-c", "eth9,eth8", "--drop-invalid")
    before = space.rules()
    assert "nothing to do" in run(space, *CAPTURE_ALL, "-c", "eth9,eth8", "--drop-invalid")
    assert space.rules() == before


@root
def test_other_settings_replace_the_rules_and_leave_those_of_others_alone(space: Namespace) -> None:
    space.run("iptables", "-t", "nat", "-A", "PREROUTING", "-p", "udp", "-j", "RETURN")
    run(space, *CAPTURE_ALL)
    run(space, "-b", "8080", "-c", "eth9")
    assert "-A ISTIO_INBOUND -p tcp -m tcp --dport 8080 -j ISTIO_IN_REDIRECT" in space.rules()
    assert "-A ISTIO_OUTPUT -j ISTIO_REDIRECT" not in space.rules()
    assert "-A PREROUTING -p udp -j RETURN" in space.rules()
    with netns.namespace() as other:
        other.run("iptables", "-t", "nat", "-A", "PREROUTING", "-p", "udp", "-j", "RETURN")
        run(other, "-b", "8080", "-c", "eth9")
        assert other.rules() == space.rules()


@root
def test_a_rule_that_somebody_changed_is_put_right(space: Namespace) -> None:
    run(space, *CAPTURE_ALL)
    before = space.rules()
    space.run("iptables", "-t", "nat", "-R", "ISTIO_IN_REDIRECT", "1", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "9")
    assert "replaced" in run(space, *CAPTURE_ALL)
    assert space.rules() == before
    assert "replaced" in run(space, *CAPTURE_ALL, "--force-apply")
    assert space.rules() == before


@root
@pytest.mark.parametrize("flag", ["--cleanup", "--cleanup-only"])
def test_a_clean_up_leaves_what_was_there_before(space: Namespace, flag: str) -> None:
    space.run("iptables", "-t", "nat", "-A", "OUTPUT", "-p", "udp", "-j", "RETURN")
    before = [line for line in space.rules() if line.startswith("-A")]
    everything = (*CAPTURE_ALL, "-m", "TPROXY", "-c", "eth9", "--redirect-dns", "--capture-all-dns", "--drop-invalid")
    space.give("2001:db8::1/64")
    run(space, *everything)
    assert "fwmark 0x539 lookup 133" in space.run("ip", "rule", "show")
    assert "::6" in space.run("ip", "-6", "address", "show", "dev", "lo")
    assert "-A ISTIO_OUTPUT -s ::6/128 -o lo -j RETURN" in space.rules("ip6tables-save")
    assert "nothing to do" in run(space, *everything)
    run(space, *everything, flag)
    assert [line for line in space.rules() if line.startswith("-A")] == before
    assert not [line for line in space.rules("ip6tables-save") if "ISTIO" in line or line.startswith("-A")]
    assert "fwmark" not in space.run("ip", "rule", "show")
    assert "::6" not in space.run("ip", "-6", "address", "show", "dev", "lo")
    run(space, *everything, flag)


@root
def test_validation_sees_captured_connections_and_their_absence(space: Namespace) -> None:
    missing = space.istio_iptables("--skip-rule-apply", "--run-validation", "--probe-timeout", "500ms")
    assert missing.returncode == apply.VALIDATION_FAILED
    assert "did not come out at port 15006" in missing.stderr
    assert "validation passed" in run(space, *CAPTURE_ALL, "--run-validation", "--iptables-probe-port", "15002")


@root
def test_validation_works_on_a_machine_with_ipv6_only(space: Namespace) -> None:
    space.give("2001:db8::1/64")
    assert "validation passed" in run(space, *CAPTURE_ALL, "--run-validation")


@root
def test_validation_says_when_envoy_has_its_ports_already(space: Namespace) -> None:
    refused = pytest.raises(tools.ToolError, match=r"cannot listen on 127.0.0.1 port 15006")
    with tools.namespace(space.path), socket.create_server(("127.0.0.1", 15006)), refused:
        probe.run(Capture(), 15002, 1.0)


@root
def test_programs_that_fail_say_what_they_said(space: Namespace) -> None:
    with tools.namespace(space.path), pytest.raises(tools.ToolError, match=r"iptables-restore .*: .*line"):
        tools.detect(4).restore(["* nat", "-A NOWHERE -j RETURN", "COMMIT"])


@root
def test_rules_go_into_the_namespace_that_is_named(space: Namespace) -> None:
    with netns.namespace() as elsewhere:
        done = elsewhere.istio_iptables(*CAPTURE_ALL, "--network-namespace", space.path, "--cni-mode")
        assert done.returncode == 0, done.stderr
        assert "-A OUTPUT -j ISTIO_OUTPUT" in space.rules()
        assert not [line for line in elsewhere.rules() if "ISTIO" in line]
        lost = elsewhere.istio_iptables("--network-namespace", "/nowhere")
    assert lost.returncode == 1
    assert "--network-namespace /nowhere: No such file or directory" in lost.stderr


@root
def test_the_variant_that_holds_rules_is_used(space: Namespace) -> None:
    if (
        space.call("iptables-legacy-save", "-t", "nat").returncode != 0
        or space.run("iptables-nft-save", check=False) != ""
    ):
        pytest.skip("both variants are needed")
    space.run("iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-p", "udp", "-j", "RETURN")
    assert "iptables-legacy: " in run(space, *CAPTURE_ALL)
    assert "-A OUTPUT -j ISTIO_OUTPUT" in space.rules("iptables-legacy-save")
    assert "iptables-nft: " in run(space, *CAPTURE_ALL, "--force-iptables-binary", "nft")


@root
def test_without_net_admin_the_capability_is_named(space: Namespace) -> None:
    done = space.call("setpriv", "--bounding-set", "-net_admin", *space_command(*CAPTURE_ALL))
    assert done.returncode == 1
    assert "the capability NET_ADMIN is missing" in done.stderr


@root
def test_validation_without_the_right_to_change_users_says_so(space: Namespace) -> None:
    done = space.call("setpriv", "--bounding-set", "-setuid", *space_command("--skip-rule-apply", "--run-validation"))
    assert done.returncode == apply.VALIDATION_FAILED
    assert "must run as user 1337" in done.stderr


def space_command(*args: str) -> list[str]:
    return [sys.executable, "-m", "agent.iptables.apply", *args]


@root
@pytest.mark.skipif(not CASES.is_dir(), reason=f"no cases at {CASES}")
@pytest.mark.parametrize("file", sorted(CASES.glob("*.json")) if CASES.is_dir() else [], ids=lambda file: file.stem)
def test_two_fresh_namespaces_hold_the_same_after_istios_rules_and_ours(
    space: Namespace,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Groups by number: the machine has not the ones of the cases.
    case: dict[str, Any] = json.loads(file.read_text().replace("java", "201").replace("ftp", "889"))
    monkeypatch.setattr(tools, "RESOLV_CONF", tmp_path / "resolv.conf")
    servers = case["machine"]["dns_servers_v4"] + case["machine"]["dns_servers_v6"]
    tools.RESOLV_CONF.write_text("".join(f"nameserver {server}\n" for server in servers))
    if case["machine"]["ipv6"]:
        space.give("2001:db8::1/64")
    values = flags.read([arg for arg in case["args"] if arg != "--dry-run"], case["env"])
    with tools.namespace(space.path):
        settings = flags.capture(values, tools.look(case["env"], dns=not values.on("capture-all-dns")))
        apply.apply(settings, flags.options(values))
    lines = case["expected_restore_input"]
    both = lines.index(lines[0], 1) if case["machine"]["ipv6"] else len(lines)
    with netns.namespace() as theirs:
        theirs.run("iptables-restore", "--noflush", stdin="\n".join(lines[:both]) + "\n")
        theirs.run("ip6tables-restore", "--noflush", stdin="\n".join(lines[both:]) + "\n")
        assert space.rules() == theirs.rules()
        assert space.rules("ip6tables-save") == theirs.rules("ip6tables-save")
    with redirect_stderr(io.StringIO()) as said, tools.namespace(space.path):
        apply.apply(settings, flags.options(values))
    assert "nothing to do" in said.getvalue()


@root
@pytest.mark.parametrize(
    ("arguments", "variables"),
    [((), {"ISTIO_META_DNS_CAPTURE": "true"}), ((), {"REDIRECT_DNS": "true"}), (("--redirect-dns",), {})],
)
def test_port_53_is_redirected_to_the_agent_where_it_is_asked_for(
    space: Namespace, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    run(space, *CAPTURE_ALL, "--capture-all-dns", *arguments, **variables)
    to_agent = [line for line in space.rules() if "15053" in line.split() and "REDIRECT" in line.split()]
    assert len(to_agent) == 2
    with netns.namespace() as plain:
        run(plain, *CAPTURE_ALL, "--capture-all-dns")
        assert not [line for line in plain.rules() if "15053" in line.split()]


@root
def test_a_dry_run_prints_what_it_would_run_and_runs_nothing(
    space: Namespace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    space.give("2001:db8::1/64")
    monkeypatch.setenv("DRY_RUN_FILE_PATH", str(tmp_path / "plan"))
    assert apply.main(["-n", "-b", "80", "-m", "TPROXY", "--network-namespace", space.path]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "plan").read_text()
    assert [line for line in printed.splitlines() if not line.startswith(("-", "*", "COMMIT"))] == [
        "iptables-restore --noflush",
        "ip6tables-restore --noflush",
        "ip -6 address replace ::6/128 dev lo",
        "ip -4 rule add fwmark 1337 lookup 133",
        "ip -4 route replace local default dev lo table 133",
        "ip -6 rule add fwmark 1337 lookup 133",
        "ip -6 route replace local default dev lo table 133",
    ]
    assert space.rules() == []


def test_routes_are_taken_away_as_they_were_made() -> None:
    settings = Capture(mode=Mode.TPROXY, inbound_ports=("80",))
    assert apply.route_commands(settings, remove=True) == (
        ("ip", "-4", "rule", "del", "fwmark", "1337", "lookup", "133"),
        ("ip", "-4", "route", "del", "local", "default", "dev", "lo", "table", "133"),
    )


def test_a_wrong_flag_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert apply.main(["-p", "x"]) == 1
    assert capsys.readouterr().err == "istio-iptables: error: -p: 'x' is no port (1 to 65535)\n"


def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tools.shutil, "which", lambda *_, **__: None)
    assert apply.main(["--network-namespace", ""]) == 1
    assert "ip is not installed: install the package iproute2" in capsys.readouterr().err
    for forced in ("", "legacy"):
        with pytest.raises(tools.ToolError, match="install the package iptables"):
            tools.detect(4, forced)

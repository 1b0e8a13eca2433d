"""agent/iptables/flags.py: arguments and environment in, records or one clear error out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.iptables import flags
from agent.iptables.capture import ALL, Capture, Mode
from agent.iptables.flags import FlagError, Machine, Options

V4 = Machine(addresses=("10.0.0.1", "2001:db8::1"), name_servers=("10.0.0.53",))


def settings(*argv: str, machine: Machine = V4, **env: str) -> Capture:
    return flags.capture(flags.read(argv, env), machine)


def test_without_arguments_only_the_proxy_itself_is_known() -> None:
    assert settings() == Capture(dns_servers=("10.0.0.53",), ipv6=True)
    assert flags.options(flags.read((), {})) == Options()


@pytest.mark.parametrize(
    "argv",
    [
        ("-b", "80,443"),
        ("-b=80,443",),
        ("-b80,443",),
        ("--istio-inbound-ports", "80,443"),
        ("--istio-inbound-ports=80,443",),
        ("--istio-inbound-ports=80, 443,",),
    ],
)
def test_a_flag_may_be_written_in_five_ways(argv: tuple[str, ...]) -> None:
    assert settings(*argv).inbound_ports == ("80", "443")


def test_an_argument_wins_over_the_environment_and_that_over_the_default() -> None:
    assert settings(INBOUND_CAPTURE_PORT="16006").inbound_port == "16006"
    assert settings("-z", "17006", INBOUND_CAPTURE_PORT="16006").inbound_port == "17006"
    assert settings(INBOUND_CAPTURE_PORT="").inbound_port == "15006"
    assert settings(ENVOY_PORT="1").proxy_port == "15001"


def test_an_additional_variable_is_read_after_the_flags_own() -> None:
    assert settings(ISTIO_META_DNS_CAPTURE="true").redirect_dns
    assert not settings(REDIRECT_DNS="true", ISTIO_META_DNS_CAPTURE="false").redirect_dns
    assert settings(INVALID_DROP="1").drop_invalid
    assert not settings(ISTIO_DUAL_STACK="F").ipv6


def test_what_is_asked_for_in_vain_is_said() -> None:
    assert flags.in_vain(flags.read(("--log_output_level=default:info",), {})) == ()
    said = flags.in_vain(flags.read(("--log_output_level=all:debug", "--log_as_json"), {}))
    assert [line.partition(" ")[0] for line in said] == ["--log_output_level", "--log_as_json"]


def test_switches_take_a_value_only_after_an_equals_sign() -> None:
    assert flags.options(flags.read(("--dry-run", "--cleanup"), {})) == Options(dry_run=True, cleanup_only=True)
    assert flags.options(flags.read(("-n=false", "--reconcile=false", "--log_as_json"), {})) == Options()


def test_groups_follow_users_and_users_follow_the_named_account() -> None:
    known = Machine(users={"istio-proxy": "2000", "envoy": "2001"})
    assert (settings(machine=known).proxy_uids, settings(machine=known).proxy_gids) == (("2000",), ("2000",))
    assert settings(machine=known, ENVOY_USER="envoy").proxy_uids == ("2001",)
    assert settings("-u", "3,4", machine=known).proxy_gids == ("3", "4")
    assert settings("-u", "3", "-g", "1,2", machine=known).proxy_gids == ("1", "2")


def test_ipv6_rules_are_made_where_there_is_ipv6_unless_the_first_address_is_to_decide() -> None:
    """SEC70: by default nothing passes by."""
    assert settings().ipv6
    assert settings("--dual-stack").ipv6
    assert not settings("--dual-stack=false").ipv6
    assert settings(machine=Machine(addresses=("2001:db8::1",))).ipv6
    assert not settings(machine=Machine()).ipv6


def test_name_servers_do_not_matter_where_all_dns_is_captured() -> None:
    assert settings("--redirect-dns", "--capture-all-dns").dns_servers == ()


def test_every_setting_arrives() -> None:
    argv = "-p 1 -e 2 -m TPROXY -t 7 -r 8 -b * -d 15090, -i * -x 10.0.0.0/8,fd00::/8 -q 3306 -o 53:55 -k eth1 -c eth2,"
    env = {
        "ISTIO_OUTBOUND_OWNER_GROUPS": "java,202",
        "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR": "127.0.0.1/8",
        "DROP_INVALID": "true",
    }
    assert flags.capture(flags.read(argv.split(), env), Machine()) == Capture(
        proxy_port="1",
        tunnel_port="2",
        mode=Mode.TPROXY,
        tproxy_mark="7",
        tproxy_table="8",
        inbound_ports=ALL,
        inbound_exclude=("15090",),
        outbound_cidrs=ALL,
        outbound_exclude_cidrs=("10.0.0.0/8", "fd00::/8"),
        outbound_ports=("3306",),
        outbound_exclude_ports=("53:55",),
        virtual_interfaces=("eth1",),
        exclude_interfaces=("eth2",),
        owner_groups=("java", "202"),
        loopback_cidr="127.0.0.1/8",
        drop_invalid=True,
    )


def test_every_option_arrives() -> None:
    argv = "--dry-run --skip-rule-apply --run-validation --iptables-probe-port 15099 --probe-timeout 1m30s --cni-mode"
    argv += " --reconcile --cleanup-only --force-apply --network-namespace /run/netns/x --force-iptables-binary legacy"
    assert flags.options(flags.read(argv.split(), {"DRY_RUN_FILE_PATH": "/tmp/x"})) == Options(  # noqa: S108 (a name)
        dry_run=True,
        dry_run_file="/tmp/x",  # noqa: S108 (a name)
        skip_rule_apply=True,
        run_validation=True,
        probe_port=15099,
        probe_timeout=90.0,
        network_namespace="/run/netns/x",
        cni_mode=True,
        reconcile=True,
        cleanup_only=True,
        force_apply=True,
        force_binary="legacy",
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nonsense"], "unknown flag '--nonsense'"),
        (["stray"], "unknown flag 'stray'"),
        (["-p"], "-p: needs a value"),
        (["-p", "0"], "-p: '0' is no port (1 to 65535)"),
        (["-p", "http"], "-p: 'http' is no port (1 to 65535)"),
        (["-b", "80,x"], "-b: '80,x' holds 'x', which is no port (0 to 65535)"),
        (["-b", "80,70000:80000"], "-b: '80,70000:80000' holds '70000:80000', which is no port (0 to 65535)"),
        (["-i", "10.0.0.1"], "-i: '10.0.0.1' holds '10.0.0.1', which is no range such as 10.0.0.0/8"),
        (["-i", "10.0.0.0/33"], "-i: '10.0.0.0/33' holds '10.0.0.0/33', which is no range such as 10.0.0.0/8"),
        (["-x", "*"], "-x: '*' holds '*', which is no range such as 10.0.0.0/8"),
        (["-u", "1 -j ACCEPT"], "-u: '1 -j ACCEPT' holds '1 -j ACCEPT', which is no name"),
        (["-c", "eth0\n-A OUTPUT"], "-c: 'eth0\\n-A OUTPUT' holds 'eth0\\n-A OUTPUT', which is no name"),
        (["-k=-j"], "-k: '-j' holds '-j', which is no name"),
        (["-m", "NONE"], "-m: 'NONE' is none of REDIRECT, TPROXY"),
        (["-t", "4294967296"], "-t: '4294967296' is no number (0 to 4294967295)"),
        (["--dry-run=maybe"], "--dry-run: 'maybe' is neither true nor false"),
        (["--probe-timeout", "5"], "--probe-timeout: '5' is no duration such as 5s or 500ms"),
        (
            ["--native-nftables"],
            "--native-nftables: not supported; iptables (its nft variant included) programs the rules",
        ),
    ],
)
def test_what_cannot_be_read_is_named(argv: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        flags.read(argv, {})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"RUN_VALIDATION": "maybe"}, "RUN_VALIDATION: 'maybe' is neither true nor false"),
        (
            {"ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR": "10.0.0.0/8"},
            "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: '10.0.0.0/8' is no IPv4 loopback range such as 127.0.0.1/32",
        ),
        (
            {"ISTIO_OUTBOUND_OWNER_GROUPS": "java", "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE": "ftp"},
            "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: needs ISTIO_OUTBOUND_OWNER_GROUPS to be *",
        ),
        (
            {"ISTIO_OUTBOUND_OWNER_GROUPS": ",".join(map(str, range(65)))},
            "ISTIO_OUTBOUND_OWNER_GROUPS: 65 groups, at most 64 are possible",
        ),
    ],
)
def test_what_cannot_be_read_of_the_environment_is_named(env: dict[str, str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        flags.read((), env)
    assert str(caught.value) == message


def test_the_usage_names_every_flag_with_its_default_and_variables() -> None:
    lines = flags.usage().splitlines()
    assert "  -p, --envoy-port" in flags.usage()
    [line] = [each for each in lines if "--inbound-capture-port" in each]
    assert line.split() == ["-z,", "--inbound-capture-port", "default", "15006;", "INBOUND_CAPTURE_PORT"]
    assert len([each for each in lines if "--" in each]) == len(flags.FLAGS)


def test_all_flags_and_variables_of_istio_are_known() -> None:
    file = Path(os.environ.get("CONFORMANCE", "../shared/conformance")) / "iptables" / "flags.json"
    if not file.is_file():
        pytest.skip(f"no {file}")
    table = json.loads(file.read_text())
    known = {f"--{flag.name}": flag for flag in flags.FLAGS}
    for row in table["flags"]:
        flag = known[row["flag"]]
        assert flag.default == row["default"]
        assert flag.short == (row["short"] or "").lstrip("-")
        assert flag.variables == tuple(filter(None, (row["env"], *row["additional_envs"])))
    variables = {name: flag.default for flag in flags.ENVIRONMENT_ONLY for name in flag.variables}
    for row in table["env_only"][:5]:  # the sixth has no effect in Istio either
        assert variables[row["env"]] == row["default"]

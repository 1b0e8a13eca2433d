"""agent/iptables/rules.py and capture.py: settings in, lines out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.iptables import capture, flags, rules
from agent.iptables.capture import Capture, Mode
from conformance import captures, groups, instruments

CASES = [path for path, _ in groups.BY_NAME["iptables"].cases(instruments.root())]
TEMPLATE = ["-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*"]
TEMPLATE += ["-d", "15090,15021,15020", "--log_output_level=default:info"]


def lines(settings: Capture) -> tuple[str, ...]:
    return rules.restore_input(rules.build(settings, capture.ipv4(settings)))


def lines_v6(settings: Capture) -> tuple[str, ...]:
    return rules.restore_input(rules.build(settings, capture.ipv6(settings)))


def added(settings: Capture, base: Capture = Capture()) -> list[str]:  # noqa: B008 (frozen)
    """Lines that the settings have and the base has not."""
    return [line for line in lines(settings) if line not in lines(base)]


@pytest.mark.skipif(not CASES, reason=f"no conformance cases in {instruments.root()}")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_restore_input_is_istios(path: Path) -> None:
    assert [str(each) for each in captures.restore_input(path)] == []


def test_the_injection_template_gives_four_chains_and_the_nine_output_rules_in_order() -> None:
    settings = flags.capture(flags.read(TEMPLATE, {}), flags.Machine(addresses=("10.0.0.1",)))
    assert "\n".join(lines(settings)) == (
        """* nat
-N ISTIO_INBOUND
-N ISTIO_REDIRECT
-N ISTIO_IN_REDIRECT
-N ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT"""
    )


def test_nothing_inbound_is_captured_without_ports() -> None:
    assert not [line for line in lines(Capture()) if "PREROUTING" in line]


def test_excluded_outbound_ports_return_before_everything_else_of_the_output_chain() -> None:
    """Row SEC70 of the hostile inputs."""
    chain = [line for line in lines(Capture(outbound_exclude_ports=("3306",))) if line.startswith("-A ISTIO_OUTPUT")]
    assert chain[:2] == [
        "-A ISTIO_OUTPUT -p tcp --dport 3306 -j RETURN",
        "-A ISTIO_OUTPUT -p udp --dport 3306 -j RETURN",
    ]


def test_ranges_go_to_the_rules_of_their_family() -> None:
    both = Capture(outbound_cidrs=("10.0.0.0/8", "2001:db8::/32"), outbound_exclude_cidrs=("10.1.0.0/16", "fd00::/8"))
    assert [line for line in added(both) if "/" in line] == [
        "-A ISTIO_OUTPUT -d 10.1.0.0/16 -j RETURN",
        "-A ISTIO_OUTPUT -d 10.0.0.0/8 -j ISTIO_REDIRECT",
    ]
    assert lines_v6(both)[-3:-1] == (
        "-A ISTIO_OUTPUT -d fd00::/8 -j RETURN",
        "-A ISTIO_OUTPUT -d 2001:db8::/32 -j ISTIO_REDIRECT",
    )


def test_a_captured_loopback_range_lets_traffic_on_lo_reach_it() -> None:
    assert "! --uid-owner" not in "\n".join(lines(Capture(outbound_cidrs=("127.1.2.3/32",))))
    assert "! --uid-owner" not in "\n".join(lines_v6(Capture(outbound_cidrs=("127.1.2.3/32",), ipv6=True)))


def test_all_dns_is_captured_without_server_addresses() -> None:
    text = "\n".join(added(Capture(redirect_dns=True, capture_all_dns=True)))
    assert "-A ISTIO_OUTPUT_DNS -p tcp --dport 53 -j REDIRECT --to-ports 15053" in text
    assert "-A ISTIO_OUTPUT_DNS -p udp --dport 53 -j REDIRECT --to-port 15053" in text
    assert "-A ISTIO_OUTPUT_DNS -p udp --dport 53 -j CT --zone 2" in text
    assert "-A ISTIO_INBOUND -p udp --sport 53 -j CT --zone 1" in text


def test_dns_capture_without_a_server_is_no_capture() -> None:
    assert added(Capture(redirect_dns=True)) == []


def test_a_family_without_servers_has_no_jump_to_the_dns_chain_of_nat() -> None:
    settings = Capture(redirect_dns=True, dns_servers=("10.0.0.53",), ipv6=True)
    assert "-A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS" in lines(settings)
    assert "-A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS" not in lines_v6(settings)


def test_tproxy_of_all_ports_diverts_established_connections_and_leaves_interfaces_alone() -> None:
    settings = Capture(
        mode=Mode.TPROXY,
        inbound_ports=capture.ALL,
        inbound_exclude=("15090",),
        exclude_interfaces=("eth9",),
        drop_invalid=True,
    )
    mangle = lines(settings)[: lines(settings).index("COMMIT")]
    assert mangle[5:9] == (
        "-A PREROUTING -i eth9 -j RETURN",
        "-A OUTPUT -o eth9 -j RETURN",
        "-A PREROUTING -m conntrack --ctstate INVALID -j ISTIO_DROP",
        "-A ISTIO_DROP -j DROP",
    )
    inbound = [line for line in mangle if line.startswith("-A ISTIO_INBOUND")]
    assert inbound == [
        "-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN",
        "-A ISTIO_INBOUND -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT",
        "-A ISTIO_INBOUND -p tcp -j ISTIO_TPROXY",
    ]


PORT = st.integers(1, 65535).map(str)
SETTINGS = st.builds(
    Capture,
    mode=st.sampled_from(Mode),
    inbound_ports=st.sampled_from([(), capture.ALL, ("80", "443")]),
    inbound_exclude=st.lists(PORT, max_size=3).map(tuple),
    outbound_cidrs=st.sampled_from([(), capture.ALL, ("10.0.0.0/8", "fd00::/8"), ("127.0.0.2/32",)]),
    outbound_ports=st.lists(PORT, max_size=2).map(tuple),
    virtual_interfaces=st.sampled_from([(), ("eth1", "eth2")]),
    exclude_interfaces=st.sampled_from([(), ("eth3",)]),
    owner_groups=st.sampled_from([capture.ALL, ("java", "202")]),
    redirect_dns=st.booleans(),
    capture_all_dns=st.booleans(),
    dns_servers=st.sampled_from([(), ("10.0.0.53",), ("10.0.0.53", "fd00::53")]),
    drop_invalid=st.booleans(),
    proxy_uids=st.sampled_from([("1337",), ("3", "4")]),
)


@given(SETTINGS, st.sampled_from([capture.ipv4, capture.ipv6]))
def test_every_chain_that_is_jumped_to_exists_and_is_entered_from_a_built_in_one(
    settings: Capture, family: Any
) -> None:
    built = rules.build(settings, family(settings))
    for table in {rule.table for rule in built}:
        own = set(rules.chains(rule for rule in built if rule.table == table))
        jumped = {rule.target for rule in built if rule.table == table and rule.target.startswith("ISTIO_")}
        assert jumped <= own


@given(SETTINGS)
def test_the_proxys_own_traffic_is_never_sent_to_the_outbound_port(settings: Capture) -> None:
    output = [rule for rule in rules.build(settings, capture.ipv4(settings)) if rule.chain == "ISTIO_OUTPUT"]
    for kind, ids in (("--uid-owner", settings.proxy_uids), ("--gid-owner", settings.proxy_gids)):
        for each in ids:
            leaves = next(
                i for i, rule in enumerate(output) if rule.spec == ("-m", "owner", kind, each, "-j", "RETURN")
            )
            assert all(rule.target != "ISTIO_REDIRECT" for rule in output[:leaves])

"""Capture settings -> iptables rules as data, for one address family. Pure; apply.py runs them.

The rules, their order and their spelling are Istio's (features S29 to S42, B1, B3 to B10, fact P12), so that a user who
reads ``iptables-save`` in a pod finds what Istio's documentation describes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.iptables.capture import ALL, Capture, Family, Mode

DNS_PORT = "53"
AGENT_DNS_PORT = "15053"
OUTBOUND_MARK = "1338"  # set on what Envoy sends to its own pod; tells it from app to app traffic (TPROXY)
ISTIO_PREFIX = "ISTIO_"

_RETURN = ("-j", "RETURN")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``position`` is the place in the chain (from 1) where it is inserted; 0 appends it."""

    table: str
    chain: str
    spec: tuple[str, ...]
    position: int = 0

    def __str__(self) -> str:
        head = ("-I", self.chain, str(self.position)) if self.position else ("-A", self.chain)
        return " ".join((*head, *self.spec))

    @property
    def target(self) -> str:
        """The chain or verdict the rule jumps to; "" where it names none."""
        return "".join(self.spec[self.spec.index("-j") + 1 :][:1])


def build(capture: Capture, family: Family) -> tuple[Rule, ...]:
    """All rules of a family, in the order in which they are to be programmed."""
    return tuple(
        itertools.chain(
            _excluded_interfaces(capture),
            _virtual_interfaces(capture),
            _drop_invalid(capture),
            _redirect_chains(capture),
            _inbound(capture, family),
            _output_head(capture, family),
            _proxy_users(capture, family),
            _owner_groups(capture),
            _dns(capture, family),
            _output_tail(capture, family),
            _tproxy_marks(capture, family),
        ),
    )


def restore_input(rules: Iterable[Rule]) -> tuple[str, ...]:
    """The lines for ``iptables-restore --noflush``: tables by name, each with its new chains, then its rules."""
    tables: dict[str, list[Rule]] = {}
    for rule in rules:
        tables.setdefault(rule.table, []).append(rule)
    lines: list[str] = []
    for table in sorted(tables):
        lines.append(f"* {table}")
        lines += [f"-N {chain}" for chain in chains(tables[table])]
        lines += [str(rule) for rule in tables[table]]
        lines.append("COMMIT")
    return tuple(lines)


def chains(rules: Iterable[Rule]) -> tuple[str, ...]:
    """The chains of ours that the rules stand in, in order of appearance."""
    return tuple(dict.fromkeys(rule.chain for rule in rules if rule.chain.startswith(ISTIO_PREFIX)))


def _excluded_interfaces(capture: Capture) -> Iterator[Rule]:
    for table in ("nat", "mangle") if capture.mode is Mode.TPROXY else ("nat",):
        for interface in capture.exclude_interfaces:
            yield Rule(table, "PREROUTING", ("-i", interface, *_RETURN))
            yield Rule(table, "OUTPUT", ("-o", interface, *_RETURN))


def _virtual_interfaces(capture: Capture) -> Iterator[Rule]:
    for interface in capture.virtual_interfaces:
        yield Rule("nat", "PREROUTING", ("-i", interface, *_RETURN), 1)


def _drop_invalid(capture: Capture) -> Iterator[Rule]:
    # Without this, a packet outside of the window is answered with a reset by the host (istio/istio 36489).
    if capture.drop_invalid:
        yield Rule("mangle", "PREROUTING", ("-m", "conntrack", "--ctstate", "INVALID", "-j", "ISTIO_DROP"))
        yield Rule("mangle", "ISTIO_DROP", ("-j", "DROP"))


def _redirect_chains(capture: Capture) -> Iterator[Rule]:
    tcp = ("-p", "tcp")
    yield Rule("nat", "ISTIO_INBOUND", (*tcp, "--dport", capture.tunnel_port, *_RETURN))
    yield Rule("nat", "ISTIO_REDIRECT", (*tcp, "-j", "REDIRECT", "--to-ports", capture.proxy_port))
    yield Rule("nat", "ISTIO_IN_REDIRECT", (*tcp, "-j", "REDIRECT", "--to-ports", capture.inbound_port))


def _inbound(capture: Capture, family: Family) -> Iterator[Rule]:
    if not capture.inbound_ports:
        return
    tproxy = capture.mode is Mode.TPROXY
    if tproxy:
        yield from _divert(capture, family)
    table = "mangle" if tproxy else "nat"
    yield Rule(table, "PREROUTING", ("-p", "tcp", "-j", "ISTIO_INBOUND"))
    if capture.inbound_ports == ALL:
        for port in capture.inbound_exclude:
            yield Rule(table, "ISTIO_INBOUND", ("-p", "tcp", "--dport", port, *_RETURN))
        matches: tuple[tuple[str, ...], ...] = (("-p", "tcp"),)
    else:
        matches = tuple(("-p", "tcp", "--dport", port) for port in capture.inbound_ports)
    for match in matches:
        if tproxy:
            established = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
            yield Rule("mangle", "ISTIO_INBOUND", (*match, *established, "-j", "ISTIO_DIVERT"))
        yield Rule(table, "ISTIO_INBOUND", (*match, "-j", "ISTIO_TPROXY" if tproxy else "ISTIO_IN_REDIRECT"))


def _divert(capture: Capture, family: Family) -> Iterator[Rule]:
    mark = capture.tproxy_mark
    yield Rule("mangle", "ISTIO_DIVERT", ("-j", "MARK", "--set-mark", mark))
    yield Rule("mangle", "ISTIO_DIVERT", ("-j", "ACCEPT"))
    target = ("-j", "TPROXY", "--tproxy-mark", f"{mark}/0xffffffff", "--on-port", capture.inbound_port)
    yield Rule("mangle", "ISTIO_TPROXY", ("!", "-d", family.loopback, "-p", "tcp", *target))


def _output_head(capture: Capture, family: Family) -> Iterator[Rule]:
    yield Rule("nat", "OUTPUT", ("-j", "ISTIO_OUTPUT"))
    for port in capture.outbound_exclude_ports:
        yield Rule("nat", "ISTIO_OUTPUT", ("-p", "tcp", "--dport", port, *_RETURN))
        yield Rule("nat", "ISTIO_OUTPUT", ("-p", "udp", "--dport", port, *_RETURN))
    # 127.0.0.6 is what inbound Envoy binds towards the app (S36, S46).
    yield Rule("nat", "ISTIO_OUTPUT", ("-o", "lo", "-s", family.passthrough, *_RETURN))


def _proxy_users(capture: Capture, family: Family) -> Iterator[Rule]:
    # The agent's DNS proxy may ask a server on this machine: that must not go round by inbound Envoy (B8).
    tunnel = ("!", "--dport", capture.tunnel_port)
    dns_too = ("-m", "multiport", "!", "--dports", f"{DNS_PORT},{capture.tunnel_port}")
    for uid in capture.proxy_uids:
        yield from _proxy_owner(capture, family, ("--uid-owner", uid), dns_too if capture.captures_dns else tunnel)
    for gid in capture.proxy_gids:
        yield from _proxy_owner(capture, family, ("--gid-owner", gid), tunnel)


def _proxy_owner(
    capture: Capture,
    family: Family,
    owner: tuple[str, str],
    ports: tuple[str, ...],
) -> Iterator[Rule]:
    """The three rules of rows S37 to S39: Envoy to its own pod, app to app over lo, Envoy to anything else."""
    to_itself = ("-o", "lo", "!", "-d", family.loopback, "-p", "tcp", *ports)
    yield Rule("nat", "ISTIO_OUTPUT", (*to_itself, "-m", "owner", *owner, "-j", "ISTIO_IN_REDIRECT"))
    if not capture.captures_loopback:
        # An app may ask a DNS server on lo over TCP: that must still reach the DNS rules below.
        but_dns = ("-p", "tcp", "!", "--dport", DNS_PORT) if capture.captures_dns else ()
        yield Rule("nat", "ISTIO_OUTPUT", ("-o", "lo", *but_dns, "-m", "owner", "!", *owner, *_RETURN))
    yield Rule("nat", "ISTIO_OUTPUT", ("-m", "owner", *owner, *_RETURN))


def _owner_groups(capture: Capture) -> Iterator[Rule]:
    if capture.owner_groups == ALL:
        for group in capture.owner_groups_exclude:
            yield Rule("nat", "ISTIO_OUTPUT", ("-m", "owner", "--gid-owner", group, *_RETURN))
        return
    none_of = (word for group in capture.owner_groups for word in ("-m", "owner", "!", "--gid-owner", group))
    yield Rule("nat", "ISTIO_OUTPUT", (*none_of, *_RETURN))


def _dns(capture: Capture, family: Family) -> Iterator[Rule]:
    if not capture.captures_dns:
        return
    yield Rule("raw", "OUTPUT", ("-j", "ISTIO_OUTPUT_DNS"))
    hosts = tuple(f"{address}/{family.host_mask}" for address in family.dns_servers)
    servers: tuple[tuple[str, ...], ...] = ((),)
    answers: tuple[tuple[str, ...], ...] = ((),)
    if not capture.capture_all_dns:
        servers = tuple(("-d", host) for host in hosts)
        answers = tuple(("-s", host) for host in hosts)
    if servers:
        yield Rule("nat", "ISTIO_OUTPUT", ("-j", "ISTIO_OUTPUT_DNS"))
    # "--to-port" is an accepted spelling of "--to-ports"; Istio writes it so for UDP.
    for protocol, option in (("tcp", "--to-ports"), ("udp", "--to-port")):
        for server in servers:
            match = ("-p", protocol, "--dport", DNS_PORT, *server)
            yield Rule("nat", "ISTIO_OUTPUT_DNS", (*match, "-j", "REDIRECT", option, AGENT_DNS_PORT))
    yield from _dns_zones(capture, servers, answers)


def _dns_zones(
    capture: Capture,
    servers: tuple[tuple[str, ...], ...],
    answers: tuple[tuple[str, ...], ...],
) -> Iterator[Rule]:
    """UDP DNS in two conntrack zones: agent with upstream (1), app with agent (2); one zone mixes their answers up."""
    udp, one, two = ("-p", "udp"), ("-j", "CT", "--zone", "1"), ("-j", "CT", "--zone", "2")
    owners = [("--uid-owner", uid) for uid in capture.proxy_uids] + [("--gid-owner", gid) for gid in capture.proxy_gids]
    for owner in owners:
        yield Rule("raw", "ISTIO_OUTPUT_DNS", (*udp, "--dport", DNS_PORT, "-m", "owner", *owner, *one))
        yield Rule("raw", "ISTIO_OUTPUT_DNS", (*udp, "--sport", AGENT_DNS_PORT, "-m", "owner", *owner, *two))
    if servers:
        yield Rule("raw", "PREROUTING", ("-j", "ISTIO_INBOUND"))
    for server, answer in zip(servers, answers, strict=True):
        yield Rule("raw", "ISTIO_OUTPUT_DNS", (*udp, "--dport", DNS_PORT, *server, *two))
        yield Rule("raw", "ISTIO_INBOUND", (*udp, "--sport", DNS_PORT, *answer, *one))


def _output_tail(capture: Capture, family: Family) -> Iterator[Rule]:
    yield Rule("nat", "ISTIO_OUTPUT", ("-d", family.loopback, *_RETURN))
    for cidr in family.exclude_cidrs:
        yield Rule("nat", "ISTIO_OUTPUT", ("-d", cidr, *_RETURN))
    for port in capture.outbound_ports:
        yield Rule("nat", "ISTIO_OUTPUT", ("-p", "tcp", "--dport", port, "-j", "ISTIO_REDIRECT"))
    if family.cidrs == ALL:
        yield Rule("nat", "ISTIO_OUTPUT", ("-j", "ISTIO_REDIRECT"))
        for interface in capture.virtual_interfaces:
            yield Rule("nat", "PREROUTING", ("-i", interface, "-j", "ISTIO_REDIRECT"), 1)
        return
    for cidr in family.cidrs:
        for interface in capture.virtual_interfaces:
            yield Rule("nat", "PREROUTING", ("-i", interface, "-d", cidr, "-j", "ISTIO_REDIRECT"), 1)
        yield Rule("nat", "ISTIO_OUTPUT", ("-d", cidr, "-j", "ISTIO_REDIRECT"))


def _tproxy_marks(capture: Capture, family: Family) -> Iterator[Rule]:
    if capture.mode is not Mode.TPROXY:
        return
    ours = ("-m", "mark", "--mark", capture.tproxy_mark)
    # The mark that Envoy's original_src filter sets becomes the connection's, so that the app's answers find back.
    yield Rule("mangle", "PREROUTING", ("-p", "tcp", *ours, "-j", "CONNMARK", "--save-mark"))
    yield Rule("mangle", "OUTPUT", ("-p", "tcp", "-o", "lo", *ours, *_RETURN))
    owners = [("--uid-owner", uid) for uid in capture.proxy_uids] + [("--gid-owner", gid) for gid in capture.proxy_gids]
    for owner in owners:
        to_itself = ("!", "-d", family.loopback, "-p", "tcp", "-o", "lo", "-m", "owner", *owner)
        yield Rule("mangle", "OUTPUT", (*to_itself, "-j", "MARK", "--set-mark", OUTBOUND_MARK))
    connection = ("-p", "tcp", "-m", "connmark", "--mark", capture.tproxy_mark)
    yield Rule("mangle", "OUTPUT", (*connection, "-j", "CONNMARK", "--restore-mark"))
    yield Rule("mangle", "ISTIO_INBOUND", ("-p", "tcp", *ours, *_RETURN), 1)
    yield Rule("mangle", "ISTIO_INBOUND", ("-p", "tcp", "-s", family.passthrough, "-i", "lo", *_RETURN), 2)
    foreign = ("-m", "mark", "!", "--mark", OUTBOUND_MARK)
    yield Rule("mangle", "ISTIO_INBOUND", ("-p", "tcp", "-i", "lo", *foreign, *_RETURN), 3)

"""Istio's flags and environment variables of ``istio-iptables`` (features B2), checked and turned into records.

Nothing here touches the machine: what is taken from it (addresses, name servers, users) comes in as ``Machine``. Values
are checked strictly, because they end as words in the lines that iptables-restore reads as root.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.iptables.capture import ALL, Capture, Mode

MAX_OWNER_GROUPS = 64  # Istio's limit; iptables takes no more matches in one rule
DEFAULT_PROXY_UID = "1337"
_MAX_PORT = 65535


class FlagError(ValueError):
    """A flag or variable that istio-iptables does not know or cannot read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts of the network namespace: its addresses without loopback and link-local ones, IPv4 first; name servers.

    ``users`` maps user names to numeric ids.
    """

    addresses: tuple[str, ...] = ()
    name_servers: tuple[str, ...] = ()
    users: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run: everything of the command line that is no capture setting. ``probe_timeout`` is in seconds."""

    dry_run: bool = False
    dry_run_file: str = ""
    skip_rule_apply: bool = False
    run_validation: bool = False
    probe_port: int = 15002
    probe_timeout: float = 5.0
    network_namespace: str = ""
    cni_mode: bool = False
    reconcile: bool = False
    cleanup_only: bool = False
    force_apply: bool = False
    force_binary: str = ""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``reads`` checks its text and raises ValueError with what is wrong; "bool" flags need no value."""

    name: str
    reads: Callable[[str], object]
    default: str = ""
    short: str = ""
    also: tuple[str, ...] = ()
    env: bool = True

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables that set the default; the last that is set wins."""
        own = (self.name.upper().replace("-", "_"),) if self.env else ()
        return own + self.also


def boolean(text: str) -> bool:
    """What Go's flag package takes for a truth value."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False", ""}:
        return False
    raise ValueError("is neither true nor false")


def port(text: str) -> str:
    """A port number."""
    if not text.isdecimal() or not 0 < int(text) <= _MAX_PORT:
        raise ValueError("is no port (1 to 65535)")
    return text


def number(text: str) -> str:
    """A number that fits 32 bits: packet marks and routing tables."""
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise ValueError("is no number (0 to 4294967295)")
    return text


def seconds(text: str) -> float:
    """A Go duration such as ``5s`` or ``1m30s``, in seconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not parts or "".join(value + unit for value, unit in parts) != text:
        raise ValueError("is no duration such as 5s or 500ms")
    return sum(float(value) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit] for value, unit in parts)


def cidr(text: str) -> str:
    """An address range with its prefix length."""
    _, slash, _ = text.partition("/")
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        slash = ""
    if not slash or "%" in text:
        raise ValueError(f"holds {text!r}, which is no range such as 10.0.0.0/8")
    return text


def words(text: str) -> tuple[str, ...]:
    """A comma list of interfaces, users or groups; empty entries are dropped, as Istio does."""
    entries = tuple(each for each in text.split(",") if each)
    for entry in entries:
        if not re.fullmatch(r"[A-Za-z0-9_.+:@-]+", entry) or entry.startswith("-"):
            raise ValueError(f"holds {entry!r}, which is no name")
    return entries


def ports(text: str) -> tuple[str, ...]:
    """A comma list of ports or ranges FROM:TO. A blank around one is left out; 0 matches nothing."""
    entries = tuple(each.strip() for each in text.split(",") if each.strip())
    for entry in entries:
        for end in entry.split(":", 1):
            if end != "0" and not (end.isascii() and end.isdecimal() and 0 < int(end) <= _MAX_PORT):
                raise ValueError(f"holds {entry!r}, which is no port (0 to 65535)")
    return entries


def cidrs(text: str) -> tuple[str, ...]:
    """A comma list of address ranges."""
    return tuple(cidr(each) for each in text.split(",") if each)


def or_all(reads: Callable[[str], tuple[str, ...]]) -> Callable[[str], tuple[str, ...]]:
    """A list, or ``*`` for everything."""
    return lambda text: ALL if text == "*" else reads(text)


def one_of(*allowed: str) -> Callable[[str], str]:
    """One of some words."""

    def reads(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"is none of {', '.join(word for word in allowed if word)}")
        return text

    return reads


def text_of(text: str) -> str:
    """Free text that never reaches iptables."""
    return text


def loopback(text: str) -> str:
    """An IPv4 range inside 127.0.0.0/8."""
    if not ipaddress.ip_interface(cidr(text)).ip.is_loopback or ipaddress.ip_interface(text).version != 4:  # noqa: PLR2004 (IPv4)
        raise ValueError("is no IPv4 loopback range such as 127.0.0.1/32")
    return text


FLAGS = (
    Flag("envoy-port", port, "15001", "p", env=False),
    Flag("inbound-capture-port", port, "15006", "z"),
    Flag("inbound-tunnel-port", port, "15008", "e"),
    Flag("proxy-uid", words, short="u"),
    Flag("proxy-gid", words, short="g"),
    Flag("istio-inbound-interception-mode", one_of("", "REDIRECT", "TPROXY"), short="m"),
    Flag("istio-inbound-ports", or_all(ports), short="b"),
    Flag("istio-local-exclude-ports", ports, short="d"),
    Flag("istio-exclude-interfaces", words, short="c"),
    Flag("istio-service-cidr", or_all(cidrs), short="i"),
    Flag("istio-service-exclude-cidr", cidrs, short="x"),
    Flag("istio-outbound-ports", ports, short="q"),
    Flag("istio-local-outbound-ports-exclude", ports, short="o"),
    Flag("kube-virt-interfaces", words, short="k"),
    Flag("istio-inbound-tproxy-mark", number, "1337", "t"),
    Flag("istio-inbound-tproxy-route-table", number, "133", "r"),
    Flag("dry-run", boolean, "false", "n"),
    Flag("iptables-probe-port", port, "15002"),
    Flag("probe-timeout", seconds, "5s"),
    Flag("skip-rule-apply", boolean, "false"),
    Flag("run-validation", boolean, "false"),
    Flag("redirect-dns", boolean, "false", also=("ISTIO_META_DNS_CAPTURE",)),
    Flag("drop-invalid", boolean, "false", also=("INVALID_DROP",)),
    Flag("dual-stack", boolean, "false", also=("ISTIO_DUAL_STACK",)),
    Flag("capture-all-dns", boolean, "false"),
    Flag("network-namespace", text_of),
    Flag("cni-mode", boolean, "false"),
    Flag("reconcile", boolean, "false"),
    Flag("cleanup-only", boolean, "false"),
    Flag("cleanup", boolean, "false", env=False),
    Flag("force-apply", boolean, "false"),
    Flag("native-nftables", boolean, "false"),
    Flag("force-iptables-binary", one_of("", "legacy", "nft")),
    # Logging flags of the injection template: read so that it works; what they ask for in vain is said.
    Flag("log_output_level", text_of, env=False),
    Flag("log_as_json", boolean, "false", env=False),
)
ENVIRONMENT_ONLY = (
    Flag("istio-outbound-ipv4-loopback-cidr", loopback, "127.0.0.1/32"),
    Flag("istio-outbound-owner-groups", or_all(words), "*"),
    Flag("istio-outbound-owner-groups-exclude", words),
    Flag("envoy-user", text_of, "istio-proxy"),
    Flag("dry-run-file-path", text_of),
)
_NAMED: Mapping[str, Flag] = {f"--{flag.name}": flag for flag in FLAGS} | {f"-{f.short}": f for f in FLAGS if f.short}


@dataclass(frozen=True, slots=True)
class Values:
    """Checked values by flag name. ``given`` are the flags that somebody gave one."""

    by_name: Mapping[str, object]
    given: frozenset[str] = frozenset()

    def text(self, name: str) -> str:
        """A single word."""
        return str(self.by_name[name])

    def on(self, name: str) -> bool:
        """A switch."""
        return self.by_name[name] is True

    def many(self, name: str) -> tuple[str, ...]:
        """A list."""
        value = self.by_name[name]
        return tuple(str(each) for each in value) if isinstance(value, tuple) else ()


def usage() -> str:
    """What ``--help`` says: each flag with its short form, its default and its environment variables."""
    lines = [
        "usage: pilot-agent istio-iptables [flags]",
        "",
        "flags (Istio's; environment variables set their defaults):",
    ]
    for flag in FLAGS:
        name = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        facts = (f"default {flag.default}" if flag.default else "", " ".join(flag.variables))
        lines.append(f"{name:46}{'; '.join(filter(None, facts))}".rstrip())
    return "\n".join(lines)


def read(argv: Sequence[str], environment: Mapping[str, str]) -> Values:
    """Arguments over environment over defaults.

    Raises:
        FlagError: an unknown flag, a flag without its value, or a value that cannot be read.
    """
    texts: dict[str, tuple[str, str]] = {}
    for flag in FLAGS + ENVIRONMENT_ONLY:
        texts[flag.name] = ("", flag.default)
        for variable in flag.variables:
            # An empty variable is an unset one, except for lists, where it means none.
            if environment.get(variable) or (variable in environment and not flag.default):
                texts[flag.name] = (variable, environment[variable])
    texts |= _arguments(argv)
    values: dict[str, object] = {}
    for flag in FLAGS + ENVIRONMENT_ONLY:
        source, text = texts[flag.name]
        try:
            values[flag.name] = flag.reads(text)
        except ValueError as error:
            raise FlagError(f"{source}: {text!r} {error}") from None
    _check_groups(Values(values))
    return Values(values, frozenset(name for name, (source, _) in texts.items() if source))


def _arguments(argv: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Flag name -> (as the user wrote it, its text)."""
    found: dict[str, tuple[str, str]] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word.partition("=")
        else:  # -p15001, -p=15001 and -p 15001 are all in use
            name, value = word[:2], word[2:].removeprefix("=")
            equals = word[2:]
        flag = _NAMED.get(name)
        if flag is None:
            raise FlagError(f"unknown flag {word!r}")
        if not equals and flag.reads is boolean:
            value = "true"
        elif not equals:
            if not rest:
                raise FlagError(f"{name}: needs a value")
            value = rest.pop(0)
        found[flag.name] = (name, value)
    return found


def _check_groups(values: Values) -> None:
    groups, excluded = values.many("istio-outbound-owner-groups"), values.many("istio-outbound-owner-groups-exclude")
    if groups != ALL and excluded:
        raise FlagError("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: needs ISTIO_OUTBOUND_OWNER_GROUPS to be *")
    if len(groups) > MAX_OWNER_GROUPS:
        raise FlagError(f"ISTIO_OUTBOUND_OWNER_GROUPS: {len(groups)} groups, at most {MAX_OWNER_GROUPS} are possible")
    if values.on("native-nftables"):
        raise FlagError("--native-nftables: not supported; iptables (its nft variant included) programs the rules")


def capture(values: Values, machine: Machine) -> Capture:
    """The capture settings on this machine.

    IPv6 rules are made where any address is IPv6: what came in past them would be in plaintext, whatever a policy says.
    Only a ``--dual-stack=false`` that somebody gave has the first address decide, as its default does on Istio.
    """
    uids = values.many("proxy-uid") or (machine.users.get(values.text("envoy-user"), DEFAULT_PROXY_UID),)
    versions = [ipaddress.ip_address(address).version for address in machine.addresses]
    first_only = "dual-stack" in values.given and not values.on("dual-stack")
    return Capture(
        proxy_port=values.text("envoy-port"),
        inbound_port=values.text("inbound-capture-port"),
        tunnel_port=values.text("inbound-tunnel-port"),
        proxy_uids=uids,
        proxy_gids=values.many("proxy-gid") or uids,
        mode=Mode(values.text("istio-inbound-interception-mode") or "REDIRECT"),
        inbound_ports=values.many("istio-inbound-ports"),
        inbound_exclude=values.many("istio-local-exclude-ports"),
        outbound_cidrs=values.many("istio-service-cidr"),
        outbound_exclude_cidrs=values.many("istio-service-exclude-cidr"),
        outbound_ports=values.many("istio-outbound-ports"),
        outbound_exclude_ports=values.many("istio-local-outbound-ports-exclude"),
        exclude_interfaces=values.many("istio-exclude-interfaces"),
        virtual_interfaces=values.many("kube-virt-interfaces"),
        owner_groups=values.many("istio-outbound-owner-groups"),
        owner_groups_exclude=values.many("istio-outbound-owner-groups-exclude"),
        tproxy_mark=values.text("istio-inbound-tproxy-mark"),
        tproxy_table=values.text("istio-inbound-tproxy-route-table"),
        drop_invalid=values.on("drop-invalid"),
        redirect_dns=values.on("redirect-dns"),
        capture_all_dns=values.on("capture-all-dns"),
        dns_servers=() if values.on("capture-all-dns") else machine.name_servers,
        ipv6=6 in (versions[:1] if first_only else versions),  # noqa: PLR2004 (IPv6)
        loopback_cidr=values.text("istio-outbound-ipv4-loopback-cidr"),
    )


def in_vain(values: Values) -> tuple[str, ...]:
    """What is asked for and not done, a line each."""
    asked = {
        "--log_output_level has no effect: there are no levels": values.text("log_output_level")
        not in ("", "info", "default:info"),
        "--log_as_json has no effect: lines are plain text": values.on("log_as_json"),
    }
    return tuple(line for line, said in asked.items() if said)


def options(values: Values) -> Options:
    """How to run."""
    return Options(
        dry_run=values.on("dry-run"),
        dry_run_file=values.text("dry-run-file-path"),
        skip_rule_apply=values.on("skip-rule-apply"),
        run_validation=values.on("run-validation"),
        probe_port=int(values.text("iptables-probe-port")),
        probe_timeout=float(values.text("probe-timeout")),
        network_namespace=values.text("network-namespace"),
        cni_mode=values.on("cni-mode"),
        reconcile=values.on("reconcile"),
        cleanup_only=values.on("cleanup-only") or values.on("cleanup"),
        force_apply=values.on("force-apply"),
        force_binary=values.text("force-iptables-binary"),
    )

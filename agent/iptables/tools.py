"""The programs on the machine that istio-iptables runs, and what it reads of the machine. All of its I/O is here.

Both iptables variants may be installed. Rules in the variant that nobody else uses would work beside the others' and
confuse everybody, so the variant that already holds rules is taken (features B12).
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.iptables.flags import Machine
from agent.iptables.rules import Rule

CAP_NET_ADMIN = 12
RESOLV_CONF = Path("/etc/resolv.conf")
_CLONE_NEWNET = 0x40000000
_TIMEOUT = 60.0  # seconds; iptables may wait for the lock of a neighbour


class ToolError(RuntimeError):
    """The machine did not let us: a program is missing, a right is missing, or a program failed."""


@dataclass(frozen=True, slots=True)
class Tables:
    """One address family's iptables. ``variant`` is "", "-nft" or "-legacy"; "" is the machine's default."""

    version: int
    variant: str = ""

    @property
    def program(self) -> str:
        """The program's name, such as ip6tables-nft."""
        return f"ip{'6' if self.version == 6 else ''}tables{self.variant}"  # noqa: PLR2004 (IPv6)

    def save(self) -> str:
        """The rules as iptables-save prints them."""
        return run([f"{self.program}-save"])

    def usable(self) -> bool:
        """The program is there and the kernel answers it."""
        try:
            self.save()
        except ToolError:
            return False
        return True

    def restore(self, lines: Sequence[str]) -> None:
        """Program the lines, table by table, leaving everything else alone."""
        run([f"{self.program}-restore", "--noflush", "--wait", "30"], stdin="\n".join(lines) + "\n")

    def holds(self, rule: Rule) -> bool:
        """Whether the kernel has the rule, in its own spelling of it."""
        command = [self.program, "--wait", "30", "-t", rule.table, "-C", rule.chain, *rule.spec]
        return _call(command, "").returncode == 0


def detect(version: int, forced: str = "") -> Tables:
    """The iptables of a family to work with.

    Raises:
        ToolError: it is not installed.
    """
    if forced:
        _path(f"{Tables(version, '-' + forced).program}-restore")
        return Tables(version, "-" + forced)
    default = Tables(version)
    _path(f"{default.program}-restore")
    if shutil.which(f"{default.program}-nft") and shutil.which(f"{default.program}-legacy"):
        filled = [
            t for t in (Tables(version, "-nft"), Tables(version, "-legacy")) if t.usable() and "\n-A " in t.save()
        ]
        if len(filled) == 1:
            return filled[0]
    return default


def run(command: Sequence[str], stdin: str = "") -> str:
    """Run a program and give its output.

    Raises:
        ToolError: it is missing, or it failed; the message holds what it said.
    """
    done = _call(command, stdin)
    if done.returncode != 0:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        hint = needs_net_admin() if "Permission denied" in said or "Operation not permitted" in said else ""
        raise ToolError(f"{' '.join(command)}: {said}{hint and '; ' + hint}")
    return done.stdout


def _call(command: Sequence[str], stdin: str) -> subprocess.CompletedProcess[str]:
    path = _path(command[0])
    try:
        return subprocess.run(  # noqa: S603 (programs and rules are ours, values are checked in flags.py)
            [path, *command[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise ToolError(
            f"{' '.join(command)}: no answer for {_TIMEOUT:.0f} s (another program holds the lock?)"
        ) from None


def _path(program: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        package = "iproute2" if program == "ip" else "iptables"
        raise ToolError(f"{program} is not installed: install the package {package} (apt-get install {package})")
    return path


def needs_net_admin() -> str:
    """Why the kernel refuses: the missing capability, or "" where we have it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff" and not int(value, 16) >> CAP_NET_ADMIN & 1:
            return (
                "the capability NET_ADMIN is missing: run as root, and in a pod add NET_ADMIN and NET_RAW to "
                "securityContext.capabilities.add of the container istio-init"
            )
    return ""


def look(environment: Mapping[str, str], *, dns: bool) -> Machine:
    """The facts of this machine and network namespace. Name servers are read only where ``dns`` asks for them."""
    user = environment.get("ENVOY_USER") or "istio-proxy"
    return Machine(addresses=addresses(), name_servers=_name_servers() if dns else (), users=_user_ids(user))


def addresses() -> tuple[str, ...]:
    """Addresses of all interfaces but loopback and link-local ones, IPv4 first (the order of the kernel's dump)."""
    found = [
        ipaddress.ip_address(address["local"])
        for interface in json.loads(run(["ip", "-json", "address", "show"]))
        for address in interface.get("addr_info", ())
        if "local" in address
    ]
    usable = [each for each in found if not each.is_loopback and not each.is_link_local]
    return tuple(str(each) for each in sorted(usable, key=lambda each: each.version))


def _name_servers() -> tuple[str, ...]:
    try:
        lines = RESOLV_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ToolError(f"cannot read {RESOLV_CONF}: {error.strerror}") from error
    words = [line.split() for line in lines]
    return tuple(line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and "%" not in line[1])


def _user_ids(user: str) -> Mapping[str, str]:
    try:
        return {user: str(pwd.getpwnam(user).pw_uid)}
    except KeyError:
        return {}


@contextmanager
def namespace(path: str) -> Iterator[None]:
    """Work in the network namespace at a path (this thread and the programs it starts); "" stays where we are.

    Raises:
        ToolError: there is no such namespace, or we may not enter it.
    """
    if not path:
        yield
        return
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(path)
        try:
            yield
        finally:
            _setns(here)
    finally:
        os.close(here)


def _enter(path: str) -> None:
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
    except OSError as error:
        raise ToolError(f"--network-namespace {path}: {error.strerror} (entering needs SYS_ADMIN)") from error


def _setns(descriptor: int) -> None:
    # os.setns exists from Python 3.12 on.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

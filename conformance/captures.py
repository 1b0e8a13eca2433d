"""Istio's table of command lines and the iptables-restore input of each: group iptables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from agent.iptables import capture, flags, rules
from conformance import difference
from conformance.difference import Difference


def lines(case: Mapping[str, Any]) -> tuple[str, ...]:
    """What we give to iptables-restore and ip6tables-restore for a command line."""
    machine = case["machine"]
    facts = flags.Machine(
        addresses=("2001:db8::1",) if machine["ipv6"] else ("10.0.0.1",),
        name_servers=(*machine["dns_servers_v4"], *machine["dns_servers_v6"]),
    )
    settings = flags.capture(flags.read(case["args"], case["env"]), facts)
    families = [capture.ipv4(settings), *([capture.ipv6(settings)] if settings.ipv6 else [])]
    return tuple(line for family in families for line in rules.restore_input(rules.build(settings, family)))


def restore_input(path: Path) -> Iterator[Difference]:
    """Every line, in order."""
    case = json.loads(path.read_text())
    for index, (wanted, given) in enumerate(zip_longest(case["expected_restore_input"], lines(case))):
        yield from difference.leaves("", f"line {index}", wanted, given)

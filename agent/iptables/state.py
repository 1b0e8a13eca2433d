"""What iptables-save says is there, compared with what should be, and the lines that turn one into the other. Pure.

The kernel gives rules back in its own spelling, so rules are not compared by text here: apply.py asks iptables about
each (``-C``), and this module compares which chains there are and how many rules stand in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.iptables import rules
from agent.iptables.rules import Rule


@dataclass(frozen=True, slots=True)
class Saved:
    """Chains of ours, by table, and all rules in the spelling of iptables-save."""

    chains: Mapping[str, tuple[str, ...]]
    rules: tuple[Rule, ...]

    @property
    def ours(self) -> tuple[Rule, ...]:
        """The rules in chains of ours, and those that jump there."""
        return tuple(rule for rule in self.rules if _is_ours(rule))

    @property
    def empty(self) -> bool:
        """Nothing of ours is there."""
        return not self.ours and not any(self.chains.values())


def parse(text: str) -> Saved:
    """The output of iptables-save."""
    table = ""
    chains: dict[str, tuple[str, ...]] = {}
    found: list[Rule] = []
    for line in text.splitlines():
        words = line.split(" ")
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":" + rules.ISTIO_PREFIX):
            chains[table] = (*chains.get(table, ()), words[0][1:])
        elif words[0] == "-A" and len(words) > 1:
            found.append(Rule(table, words[1], tuple(words[2:])))
    return Saved(chains, tuple(found))


def _is_ours(rule: Rule) -> bool:
    prefix = rules.ISTIO_PREFIX
    return rule.chain.startswith(prefix) or ("-j" in rule.spec and rule.target.startswith(prefix))


def same_shape(saved: Saved, wanted: Sequence[Rule]) -> bool:
    """The same chains hold the same number of rules, and as many rules jump into them from each built-in chain."""
    there = Counter((rule.table, rule.chain) for rule in saved.ours)
    due = Counter((rule.table, rule.chain) for rule in wanted if _is_ours(rule))
    chains = {(table, chain) for table, names in saved.chains.items() for chain in names}
    return there == due and chains == {(rule.table, rule.chain) for rule in wanted if _is_own_chain(rule)}


def _is_own_chain(rule: Rule) -> bool:
    return rule.chain.startswith(rules.ISTIO_PREFIX)


def loose(wanted: Iterable[Rule]) -> tuple[Rule, ...]:
    """Rules in built-in chains that jump into none of ours: only their exact text tells that they are ours."""
    return tuple(rule for rule in wanted if not _is_ours(rule))


def replacement(saved: Saved, present: Iterable[Rule], wanted: Sequence[Rule]) -> tuple[str, ...]:
    """Lines for iptables-restore that take everything of ours away and then program ``wanted``.

    Each table is one transaction, so there is no moment without capture in between. ``present`` are loose rules that
    iptables has confirmed.
    """
    leaving = [*(rule for rule in saved.ours if not _is_own_chain(rule)), *present]
    tables = {*saved.chains, *(rule.table for rule in leaving), *(rule.table for rule in wanted)}
    lines: list[str] = []
    for table in sorted(tables):
        lines.append(f"* {table}")
        lines += [" ".join(("-D", rule.chain, *rule.spec)) for rule in leaving if rule.table == table]
        for verb in ("-F", "-X"):
            lines += [f"{verb} {chain}" for chain in saved.chains.get(table, ())]
        lines += rules.restore_input(rule for rule in wanted if rule.table == table)[1:-1]
        lines.append("COMMIT")
    return tuple(lines)

"""``pilot-agent istio-iptables``: program the rules of a pod's network namespace, or take them away.

Safe to run again (features B11): rules that are there already are left alone; different ones are replaced, table by
table in one transaction each. What the rules are is said in rules.py, how the machine is asked in tools.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.iptables import capture, flags, probe, rules, state, tools
from agent.iptables.capture import Capture, Family, Mode
from agent.iptables.flags import Options
from agent.iptables.rules import Rule
from agent.iptables.tools import Tables

VALIDATION_FAILED = 126  # Istio's exit status: CNI's repair controller looks for it


def main(argv: Sequence[str]) -> int:
    """Run istio-iptables. Returns the exit status; messages go to stderr, rules to stdout."""
    if {"-h", "--help"} & set(argv):
        sys.stdout.write(f"{flags.usage()}\n")
        return 0
    try:
        values = flags.read(argv, os.environ)
        options = flags.options(values)
        with tools.namespace(options.network_namespace):
            for line in flags.in_vain(values):
                _say(f"warning: {line}")
            dns = values.on("redirect-dns") and not values.on("capture-all-dns")
            return _run(flags.capture(values, tools.look(os.environ, dns=dns)), options)
    except (flags.FlagError, tools.ToolError) as error:
        _say(f"error: {error}")
        return 1


def _run(settings: Capture, options: Options) -> int:
    if options.dry_run:
        _print_plan(settings, options)
        return 0
    if options.cni_mode:
        # The lock file is the host's; the namespace is the pod's: waiting for the neighbours would serve nothing.
        os.environ["XTABLES_LOCKFILE"] = os.devnull
    if not options.skip_rule_apply:
        apply(settings, options)
    if options.run_validation and not options.cleanup_only:
        try:
            probe.run(settings, options.probe_port, options.probe_timeout, ipv6=_only_ipv6())
        except tools.ToolError as error:
            _say(f"error: {error}")
            return VALIDATION_FAILED
        _say("validation passed: a connection was captured")
    return 0


def apply(settings: Capture, options: Options) -> None:
    """Make the machine's rules those of the settings, or none where the options ask for a clean-up.

    Raises:
        ToolError: iptables or a right is missing, or a rule was refused.
    """
    if missing := tools.needs_net_admin():
        raise tools.ToolError(missing)
    for family in (capture.ipv4(settings), capture.ipv6(settings)):
        needed = family.version == 4 or settings.ipv6  # noqa: PLR2004 (IPv4)
        tables = _tables(family.version, options.force_binary, needed=needed)
        if tables:
            built = rules.build(settings, family)
            _reconcile(tables, built, built if needed and not options.cleanup_only else (), force=options.force_apply)
    for command in route_commands(settings, remove=options.cleanup_only):
        _route(command, remove=options.cleanup_only)
    if not options.cleanup_only:
        sys.stdout.write(tools.detect(4, options.force_binary).save())


def _tables(version: int, forced: str, *, needed: bool) -> Tables | None:
    """The iptables of a family; None where nothing is needed of it and it does not work."""
    try:
        tables = tools.detect(version, forced)
    except tools.ToolError:
        if needed:
            raise
        return None
    return tables if needed or tables.usable() else None


def _reconcile(tables: Tables, built: Sequence[Rule], wanted: Sequence[Rule], *, force: bool) -> None:
    saved = state.parse(tables.save())
    if saved.empty and wanted:
        tables.restore(rules.restore_input(wanted))
        _say(f"{tables.program}: {len(wanted)} rules programmed")
    elif wanted and not force and state.same_shape(saved, wanted) and all(tables.holds(rule) for rule in wanted):
        _say(f"{tables.program}: the rules are in place, nothing to do")
    else:
        present = [rule for rule in state.loose(built) if tables.holds(rule)]
        if lines := state.replacement(saved, present, wanted):
            tables.restore(lines)
            _say(f"{tables.program}: {len(saved.ours)} rules replaced by {len(wanted)}")


def route_commands(settings: Capture, *, remove: bool = False) -> tuple[tuple[str, ...], ...]:
    """The ``ip`` commands beside the rules: address ::6 for IPv6, policy routing for TPROXY."""
    commands: list[tuple[str, ...]] = []
    if settings.ipv6:
        commands.append(("ip", "-6", "address", "del" if remove else "replace", "::6/128", "dev", "lo"))
    if settings.mode is Mode.TPROXY and settings.inbound_ports:
        mark, table = settings.tproxy_mark, settings.tproxy_table
        for family in ("-4", "-6") if settings.ipv6 else ("-4",):
            local = ("local", "default", "dev", "lo", "table", table)
            commands.append(("ip", family, "rule", "del" if remove else "add", "fwmark", mark, "lookup", table))
            commands.append(("ip", family, "route", "del" if remove else "replace", *local))
    return tuple(commands)


def _route(command: tuple[str, ...], *, remove: bool) -> None:
    """Run one ``ip`` command. A rule that is there already is not added again; what is gone already is no failure."""
    if command[2:4] == ("rule", "add") and tools.run((*command[:3], "show", *command[4:])):
        return
    try:
        tools.run(command)
    except tools.ToolError:
        if not remove:
            raise


def _print_plan(settings: Capture, options: Options) -> None:
    lines = list(_plan(settings, capture.ipv4(settings)))
    if settings.ipv6:
        lines += _plan(settings, capture.ipv6(settings))
    lines += [" ".join(command) for command in route_commands(settings)]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if options.dry_run_file:
        Path(options.dry_run_file).write_text(text, encoding="utf-8")


def _plan(settings: Capture, family: Family) -> tuple[str, ...]:
    return (f"{Tables(family.version).program}-restore --noflush", *rules.restore_input(rules.build(settings, family)))


def _only_ipv6() -> bool:
    return all(":" in address for address in tools.addresses()) and bool(tools.addresses())


def _say(message: str) -> None:
    sys.stderr.write(f"istio-iptables: {message}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

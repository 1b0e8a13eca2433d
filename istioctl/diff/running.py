"""What the command ``diff`` does: two meshes in, what changes for whom out; the exit code is for CI."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final

from istioctl import options, output
from istioctl.diff import compare
from istioctl.diff.compare import Group, Report
from istioctl.errors import CommandError
from istioctl.offline import world
from istioctl.offline.world import World
from istiod.envoy.compiler import Compiler

SAME, DIFFERS, FAILED = 0, 1, 2
_NAMED: Final = 4


def run(given: argparse.Namespace) -> int:
    """Compare, print what differs, and say by the exit code whether anything does."""
    try:
        before, after = _meshes(given)
    except CommandError as error:
        output.complain(str(error))
        return FAILED
    found = compare.compare(before, after)
    if given.output == "short":
        output.say("".join(f"{line}\n" for line in _text(found, before, after, verbose=given.verbose)))
    else:
        output.say(output.structured(_plain(found), given.output))
    return DIFFERS if found.differs else SAME


def _meshes(given: argparse.Namespace) -> tuple[World, World]:
    compiler = Compiler()
    if len(given.folders) == 2 and not (given.filename or given.new or given.delete):  # noqa: PLR2004 (old and new)
        one, other = (dict(world.contents([each])) for each in given.folders)
        return world.pair(one, other, compiler)
    if given.folders or not (given.new or given.delete):
        raise CommandError("name two meshes, or what changes with --new and --delete, and the mesh with -f")
    before = dict(world.contents(given.filename)) if given.filename else _live(given)
    added, removed = dict(world.contents(given.new)), dict(world.contents(given.delete))
    return world.changed(before, added, removed, compiler)


def _live(given: argparse.Namespace) -> dict[str, bytes]:
    """The objects of a running istiod."""
    reasons = []
    for plane in options.control_planes(given):
        try:
            return {"(istiod)": b'{"apiVersion": "v1", "kind": "List", "items": ' + plane.ask("/debug/configz") + b"}"}
        except CommandError as error:
            reasons.append(str(error))
    raise CommandError("; ".join(reasons))


def _text(found: Report, before: World, after: World, *, verbose: bool) -> Iterator[str]:
    if not found.differs:
        return
    for word, key in found.objects:
        place = (before if word == "gone" else after).position(key, "")
        yield f"{word}: {key} ({place})"
    for finding in found.findings:
        yield f"finding: {finding}"
    for group in found.groups:
        yield ""
        yield from _group(group, verbose=verbose)
    yield ""
    yield f"{found.touched} of {found.proxies} proxies would do something else"


def _group(group: Group, *, verbose: bool) -> Iterator[str]:
    shown = ", ".join(group.proxies[:_NAMED])
    more = f" and {len(group.proxies) - _NAMED} more" if len(group.proxies) > _NAMED else ""
    yield f"{len(group.proxies)} {'proxy' if len(group.proxies) == 1 else 'proxies'}: {shown}{more}"
    plain = [change for change in group.changes if verbose or not change.technical] or list(group.changes)
    for change in plain:
        yield f"  {change.title}"
        yield from (f"    {_printable(line)}" for line in change.lines)
    if len(plain) < len(group.changes):
        yield f"  and {len(group.changes) - len(plain)} differences in how listeners are built (--verbose)"
    if group.cost:
        yield "  connections"
        yield from (f"    {line}" for line in group.cost)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _plain(found: Report) -> Any:
    return {
        "differs": found.differs,
        "proxies": found.proxies,
        "objects": [{"change": word, "object": str(key)} for word, key in found.objects],
        "findings": list(found.findings),
        "groups": [
            {
                "proxies": list(group.proxies),
                "changes": [{"title": one.title, "lines": list(one.lines)} for one in group.changes],
                "connections": list(group.cost),
            }
            for group in found.groups
        ],
    }

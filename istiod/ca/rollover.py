"""From one CA to another without a failed handshake: which roots are published, and who signs. Pure.

What the operator wants (``cacerts``, ``istio-ca-secret``, a folder) may change at once and as a whole. What happens is
a sequence of steps, each of which waits until nobody can be hurt by it (features row O6, faults FT35, FT36):

1. A new root is published beside the old ones. The old CA signs on.
2. Once every connected proxy has the new root, the new CA signs.
3. Once no certificate lives that needs the old root, it is published no more.

A proxy has a root when it shows a certificate that came along with it (``authority.fingerprint``). For those that show
none, time is the proof: after the longest life that was granted, every certificate from before has ended.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from istiod.ca import authority
from istiod.ca.authority import Authority, Material

MARGIN: Final = 5.0
"""Seconds by which the clocks of two replicas may differ unnoticed."""
_PARTS: Final = ("certificate", "key", "chain", "roots")


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A published root.

    Attributes:
        pem: The certificate.
        ready: Whether every proxy has it, so that it may vouch for somebody.
        longest: The longest life (seconds) of a certificate that hangs on it.
        until: Unix time until which such certificates may live; 0 while its CA signs, or if it never did.
    """

    pem: str
    ready: bool = False
    longest: float = 0.0
    until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What has to survive a restart, and what every replica has to know.

    Attributes:
        roots: Published, oldest first.
        signer: The CA that signs while the one that is wanted has to wait; None where the wanted one signs.
        since: Unix time of the newest root's publication.
    """

    roots: tuple[Root, ...] = ()
    signer: Material | None = None
    since: float = 0.0

    @property
    def waits(self) -> bool:
        """Whether a root is not known to all proxies yet."""
        return not all(root.ready for root in self.roots)

    @property
    def fingerprint(self) -> int:
        """Of all published roots: see authority.fingerprint."""
        return authority.fingerprint(root.pem for root in self.roots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of the proxies.

    Attributes:
        missing: How many connected ones have not shown that they have all roots; None: it is not known yet.
        old: How many show a certificate of another CA than the one that signs.
        longest: The longest life (seconds) that was granted by the CA that signs.
    """

    missing: int | None = None
    old: int = 0
    longest: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What holds from now on; ``status`` says it to the operator."""

    state: State
    signer: Authority
    status: str


def first(wanted: Authority, now: float, longest: float) -> State:
    """The state of a mesh that has none: nobody can lack a root. ``longest``: the life of what may have been signed."""
    pems = authority.split(wanted.roots)
    return State(roots=tuple(Root(pem=pem, ready=True, longest=longest) for pem in pems), since=now)


def step(state: State, wanted: Authority, current: Authority | None, seen: Seen, now: float) -> Step:
    """What is due.

    Args:
        state: What was published until now.
        wanted: The CA as the operator has it.
        current: The CA by which this process signed until now; None at its start.
        seen: What is known of the proxies.
        now: Unix time.

    Raises:
        authority.AuthorityError: the CA of the state cannot be used.
    """
    before = Authority(state.signer) if state.signer is not None else current or wanted
    published = _granted(_published(state, wanted, before, now), before.anchor, seen.longest)
    # What was seen is about the roots that were published: of new ones nobody can have said anything yet
    state = _acknowledged(published, seen, now) if published.since == state.since else published
    chosen = wanted if _root(state, wanted.anchor).ready else before
    state = _removed(_switched(state, before, chosen, now), wanted, chosen, now)
    state = replace(state, signer=None if chosen is wanted else chosen.material)
    signer = chosen.trusting(root.pem for root in state.roots)
    return Step(state=state, signer=signer, status=_status(state, wanted, chosen, seen, now))


def keeping(state: State, signer: Authority) -> State:
    """The state with the key of the CA that signs now: before the operator's place for it gets another."""
    return replace(state, signer=signer.material)


def _granted(state: State, anchor: str, longest: float) -> State:
    return _with(state, anchor, lambda root: replace(root, longest=max(root.longest, longest)))


def _published(state: State, wanted: Authority, signer: Authority, now: float) -> State:
    known = {root.pem for root in state.roots}
    needed = dict.fromkeys((*authority.split(wanted.roots), signer.anchor))
    new = tuple(Root(pem=pem) for pem in needed if pem not in known)
    return replace(state, roots=(*state.roots, *new), since=now if new else state.since)


def _acknowledged(state: State, seen: Seen, now: float) -> State:
    """Everybody has all roots: they said so, or all certificates from before have ended."""
    longest = max(root.longest for root in state.roots)
    if seen.missing != 0 and now < state.since + longest + MARGIN:
        return state
    return replace(state, roots=tuple(replace(root, ready=True) for root in state.roots))


def _switched(state: State, before: Authority, chosen: Authority, now: float) -> State:
    if before.anchor == chosen.anchor:
        return state
    state = _with(state, before.anchor, lambda root: replace(root, until=now + root.longest + MARGIN))
    return _with(state, chosen.anchor, lambda root: replace(root, until=0.0))


def _removed(state: State, wanted: Authority, chosen: Authority, now: float) -> State:
    """Without the roots that nobody needs.

    Of one whose CA signed, but not here (its key was replaced while we were away), the end is not known yet: it stays
    as long as what was signed may live.
    """
    stay = {*authority.split(wanted.roots), chosen.anchor}
    ended = (
        replace(root, until=now + root.longest + MARGIN)
        if root.pem not in stay and root.longest and not root.until
        else root
        for root in state.roots
    )
    return replace(state, roots=tuple(root for root in ended if root.pem in stay or now < root.until))


def _status(state: State, wanted: Authority, chosen: Authority, seen: Seen, now: float) -> str:
    if chosen is not wanted:
        who = "proxies are" if seen.missing is None else f"{seen.missing} connected proxies are"
        latest = _time(state.since + max(root.longest for root in state.roots) + MARGIN)
        return f"the new CA does not sign yet: {who} without the new root; it will at {latest} in any case"
    kept = [root for root in state.roots if root.pem not in authority.split(wanted.roots)]
    if kept and now < (until := max(root.until for root in kept)):
        return (
            f"the old root is not removed: certificates may live that need it, until {_time(until)}; "
            f"{seen.old} connected proxies show one"
        )
    return "" if not state.waits else "a new root is published, and not known to all proxies yet: do not sign with it"


def _root(state: State, pem: str) -> Root:
    return next(root for root in state.roots if root.pem == pem)


def _with(state: State, pem: str, change: Callable[[Root], Root]) -> State:
    return replace(state, roots=tuple(change(root) if root.pem == pem else root for root in state.roots))


def _time(moment: float) -> str:
    return f"{dt.datetime.fromtimestamp(moment, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def dump(state: State) -> str:
    """The state as JSON. It may hold a private key."""
    roots = [{"pem": r.pem, "ready": r.ready, "longest": r.longest, "until": r.until} for r in state.roots]
    signer = state.signer
    kept = None if signer is None else {part: base64.b64encode(getattr(signer, part)).decode() for part in _PARTS}
    return json.dumps({"roots": roots, "signer": kept, "since": state.since})


def load(text: str) -> State:
    """The inverse of ``dump``.

    Raises:
        authority.AuthorityError: it is no state.
    """
    try:
        raw = json.loads(text)
        kept = raw["signer"]
        signer = None if kept is None else Material(**{part: base64.b64decode(kept[part]) for part in _PARTS})
        return State(roots=tuple(_read(each) for each in raw["roots"]), signer=signer, since=float(raw["since"]))
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise authority.AuthorityError(f"the state of the CA's rotation cannot be read: {error}") from error


def _read(raw: Any) -> Root:
    (pem,) = authority.split(raw["pem"])
    return Root(pem=pem, ready=bool(raw["ready"]), longest=float(raw["longest"]), until=float(raw["until"]))


def merged(reports: Iterable[Seen]) -> Seen:
    """What several replicas see together."""
    found = tuple(reports)
    missing = [each.missing for each in found]
    return Seen(
        missing=None if None in missing else sum(each or 0 for each in missing),
        old=sum(each.old for each in found),
        longest=max((each.longest for each in found), default=0.0),
    )

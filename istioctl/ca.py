"""``istioctl x ca``: a new self-signed root for the mesh, and where its replacement stands (docs/certificates.md).

The steps are istiod's. This asks for them, by the annotation or the file that istiod looks for, and reads what it
keeps.
"""

from __future__ import annotations

import argparse
import base64
import pathlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol

from istioctl import options, output
from istioctl.errors import INTERRUPTED, CommandError
from istiod.ca import authority, keystore, place, rollover
from istiod.ca.authority import Material
from istiod.ca.rollover import State
from wire import ca

LOOK: Final = 1.0
"""Seconds between two looks."""
PATIENCE: Final = 15.0
"""Seconds after which a wish that nobody takes up is worth a word."""
_TARGETS: Final = ("signs", "removed")
Secret = Mapping[str, Any]


class Stage(IntEnum):
    """How far a replacement is."""

    ASKED = 0
    PUBLISHED = 1
    SIGNS = 2
    NONE = 3
    """Nothing is being replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is there: the roots that are wanted (PEM), the wish for a new one, and what istiod keeps.

    ``status`` is istiod's own word on what it waits for. ``own`` is what the operator has to replace where the CA is
    the operator's own; "" for one that istiod made.
    """

    roots: frozenset[str]
    asked: bool
    state: State | None
    status: str
    own: str = ""

    @property
    def stage(self) -> Stage:
        """How far it is."""
        if self.asked:
            return Stage.ASKED
        state = self.state
        if state is None:
            return Stage.NONE
        if state.signer is not None or state.waits:
            return Stage.PUBLISHED
        return Stage.SIGNS if {root.pem for root in state.roots} - self.roots else Stage.NONE


class Place(Protocol):
    """Where the CA is kept: Secrets of a cluster, or a folder."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def look(self) -> Look:
        """What is there.

        Raises:
            CommandError: it cannot be read, or there is no CA.
        """
        ...

    def ask(self) -> None:
        """Ask for a new root.

        Raises:
            CommandError: that cannot be written.
        """
        ...


class Secrets:
    """Of a cluster's root namespace. ``cluster`` is an ``istioctl.cluster.Cluster``."""

    def __init__(self, cluster: Any, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.name = f"Secret {namespace}/{ca.OWN_CA}"

    def look(self) -> Look:
        """See Place."""
        for name in (ca.PLUGGED_IN, ca.OWN_CA):
            if (found := self._secret(name)) is not None:
                break
        else:
            raise CommandError(f'there is no CA: no Secret "{self._namespace}/{ca.OWN_CA}"')
        kept = self._secret(ca.ROTATION) or {}
        own = f'Secret "{self._namespace}/{name}"' if name == ca.PLUGGED_IN else ""
        try:
            wanted = keystore.unpack({key: _value(found, key) for key in found.get("data") or {}}, f"Secret {name}")
        except authority.AuthorityError as error:
            raise CommandError(str(error)) from error
        return Look(
            roots=_roots(wanted),
            asked=not own and ca.ROTATE in _annotations(found),
            state=_state(_value(kept, ca.STATE).decode(errors="replace")),
            status=_annotations(kept).get(ca.STATUS, ""),
            own=own,
        )

    def ask(self) -> None:
        """See Place."""
        wish = {"metadata": {"annotations": {ca.ROTATE: f"{int(time.time())}"}}}
        self._cluster.merge(self._path(ca.OWN_CA), wish)

    def _secret(self, name: str) -> Secret | None:
        found: Secret | None = self._cluster.read(self._path(name))
        return found

    def _path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self._namespace}/secrets/{name}"


class Folder:
    """The folder that istiod has as ``--caDir``."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self.name = f"folder {path}"

    def look(self) -> Look:
        """See Place."""
        try:
            kept = keystore.Folder(self._path).load()
            asked = (self._path / keystore.ROTATE).exists()
            state = _state(self._text(keystore.STATE))
            status = self._text(place.STATUS).strip()
        except (authority.AuthorityError, OSError, ValueError) as error:
            raise CommandError(f"{self.name}: {error}") from error
        if kept is None:
            raise CommandError(f"there is no CA in {self.name}: is it the --caDir of an istiod?")
        own = "" if kept.certificate.strip() in kept.roots else "its files"
        return Look(roots=_roots(kept), asked=asked, state=state, status=status, own=own)

    def ask(self) -> None:
        """See Place."""
        try:
            (self._path / keystore.ROTATE).touch()
        except OSError as error:
            raise CommandError(f"{self.name}: {error}") from error

    def _text(self, name: str) -> str:
        found = self._path / name
        return found.read_text() if found.exists() else ""


def register(commands: Any) -> None:
    """Add the command."""
    group = commands.add_parser("ca", help="the mesh's certificate authority", allow_abbrev=False)
    below = group.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("rotate", _rotate, "have istiod make a new self-signed root and bring the mesh over, step by step"),
        ("status", _status, "where the replacement of a root stands"),
    ):
        one = below.add_parser(name, parents=[options.shared()], help=text, allow_abbrev=False)
        one.add_argument(
            "--wait",
            nargs="?",
            const="removed",
            default="",
            choices=_TARGETS,
            help="wait until the new CA signs, or (alone) until the old root is removed: a day later by default",
        )
        one.add_argument(
            "--timeout", type=options.seconds, default=0.0, metavar="TIME", help="such as 30m; absent: for ever"
        )
        one.add_argument("--ca-dir", default="", metavar="DIR", help="the --caDir of an istiod without Kubernetes")
        one.set_defaults(run=run)


def _rotate(given: argparse.Namespace) -> int:
    where = _place(given)
    now = where.look()
    if now.stage is Stage.NONE:
        if now.own:
            raise CommandError(f"the CA is your own: replace {now.own}, and istiod takes the same steps")
        where.ask()
        output.say(f"A new self-signed root is asked for ({where.name}).")
    else:
        output.say("A root is being replaced already: no further one is asked for.")
    return _told(where, given)


def _status(given: argparse.Namespace) -> int:
    return _told(_place(given), given)


def _place(given: argparse.Namespace) -> Place:
    if given.ca_dir:
        return Folder(pathlib.Path(given.ca_dir))
    return Secrets(options.cluster(given), given.istioNamespace)


def _told(where: Place, given: argparse.Namespace) -> int:
    if given.wait:
        return _followed(where, Stage.SIGNS if given.wait == "signs" else Stage.NONE, given.timeout)
    now = where.look()
    output.say(said(now))
    if now.stage is not Stage.NONE:
        output.say("It goes on by itself; 'istioctl x ca status --wait' follows it.")
    return 0


def _followed(where: Place, target: Stage, timeout: float) -> int:
    """Say each step until the target is reached; what was waited for goes on also if nobody waits.

    Raises:
        CommandError: it took too long.
    """
    began, last, warned = time.monotonic(), "", False
    try:
        while True:
            now, past = where.look(), time.monotonic() - began
            if (line := said(now)) != last:
                output.say(f"{past:5.0f}s  {line}")
                last = line
            if now.stage >= target:
                return 0
            if now.stage is Stage.ASKED and past > PATIENCE and not warned:
                output.complain("no istiod takes it up: does one run, and does its log say why not?", "Warning")
                warned = True
            if timeout and past > timeout:
                raise CommandError(f"not within {timeout:g} s; it goes on by itself: {last}")
            time.sleep(LOOK)
    except KeyboardInterrupt:
        output.say("It goes on by itself; 'istioctl x ca status --wait' follows it.")
        return INTERRUPTED


def said(now: Look) -> str:
    """Where it stands, for people."""
    waits = f": {now.status}" if now.status else ""
    count = len(now.state.roots) if now.state is not None else 0
    return {
        Stage.ASKED: "step 0 of 3: asked for; the istiod that leads takes it up within seconds",
        Stage.PUBLISHED: f"step 1 of 3: the new root is published beside the old one, and the old CA signs{waits}",
        Stage.SIGNS: f"step 2 of 3: the new CA signs, and both roots are published{waits}",
        Stage.NONE: f"step 3 of 3: nothing is being replaced; {count} root(s) published",
    }[now.stage]


def _state(text: str) -> State | None:
    try:
        return rollover.load(text) if text else None
    except authority.AuthorityError as error:
        raise CommandError(str(error)) from error


def _annotations(secret: Secret) -> Mapping[str, str]:
    return secret.get("metadata", {}).get("annotations") or {}


def _value(secret: Secret, key: str) -> bytes:
    try:
        return base64.b64decode((secret.get("data") or {}).get(key, ""))
    except ValueError as error:
        raise CommandError(f"{key} of a Secret of the CA cannot be read: {error}") from error


def _roots(material: Material) -> frozenset[str]:
    try:
        return frozenset(authority.split(material.roots.decode()))
    except ValueError as error:
        raise CommandError(f"the CA's roots cannot be read: {error}") from error

"""The CA of a mesh without Kubernetes: a folder, which one process has for itself (following.Place).

The operator replaces its files, or makes a file ``rotate`` in it for a new self-signed root.
"""

from __future__ import annotations

import datetime as dt
import pathlib
from collections.abc import Callable, Sequence
from typing import Final

from istiod.ca import authority, keystore, rollover
from istiod.ca.authority import Authority, AuthorityError, Material
from istiod.ca.rollover import Seen, State

STATUS: Final = "rotation-status"
"""Name of the file that says what a replacement waits for; empty where there is none."""
PUBLISHED: Final = "published-roots.pem"
"""Name of the file with all roots that proxies are told to trust."""


def load_or_create(
    path: pathlib.Path, organization: str, now: dt.datetime, life: dt.timedelta = authority.ROOT_LIFE
) -> Authority:
    """The CA in a folder; a new self-signed one, which has signed nothing yet, where there is none.

    Raises:
        AuthorityError: the folder cannot be read or written, or holds what cannot be used.
    """
    folder = keystore.Folder(path)
    fresh = folder.load() is None
    wanted = keystore.load_or_create(folder, organization, now, life)
    if fresh:
        _keep(path, rollover.first(wanted, now.timestamp(), 0.0), "")
    return wanted


def _keep(path: pathlib.Path, state: State, status: str) -> None:
    try:
        keystore.write_private(path / keystore.STATE, rollover.dump(state).encode())
        keystore.write_private(path / STATUS, f"{status}\n".encode())
        keystore.write_private(path / PUBLISHED, "".join(root.pem for root in state.roots).encode())
    except OSError as error:
        raise AuthorityError(f"cannot write the CA's folder: {error}") from error


class FolderPlace:
    """A following.Place."""

    leads = True

    def __init__(
        self,
        path: pathlib.Path,
        organization: str,
        now: Callable[[], dt.datetime],
        life: dt.timedelta = authority.ROOT_LIFE,
    ) -> None:
        """``organization`` is for the subject of new roots, ``life`` is theirs."""
        self._life = life
        self._path = path
        self._files = keystore.Folder(path)
        self._organization = organization
        self._now = now
        self._stamp: object = None
        self._material: Material | None = None
        self._state: State | None = None

    def wanted(self) -> Material | None:
        """See Place. Files that are being replaced one by one are read again as long as they do not fit."""
        stamp = self._files.stamp()
        if stamp != self._stamp:
            material = self._files.load()
            if material is not None:
                Authority(material)
            self._material, self._stamp = material, stamp
        return self._material

    def state(self) -> State | None:
        """See Place."""
        if self._state is None:
            try:
                self._state = rollover.load((self._path / keystore.STATE).read_text())
            except FileNotFoundError:
                return None
            except (OSError, UnicodeDecodeError) as error:
                raise AuthorityError(f"cannot read the CA's folder: {error}") from error
        return self._state

    def others(self, fingerprint: int) -> Sequence[Seen]:
        """See Place: there are none."""
        del fingerprint
        return ()

    async def keep(self, state: State, status: str) -> None:
        """See Place.

        Raises:
            AuthorityError: it cannot be written.
        """
        _keep(self._path, state, status)
        self._state = state

    async def report(self, seen: Seen, fingerprint: int) -> None:
        """See Place: there is nobody to tell."""

    async def renew(self, state: State, signer: Authority, *, aged: bool) -> bool:
        """See Place.

        Raises:
            AuthorityError: the CA is the operator's own, or the folder cannot be written.
        """
        asked = self._path / keystore.ROTATE
        wished = asked.exists()
        if not (wished or aged):
            return False
        if signer.material.certificate.strip() not in {pem.strip().encode() for pem in authority.split(signer.roots)}:
            if not wished:
                return False
            _put_away(asked)
            raise AuthorityError("only a self-signed root can be made anew here; replace the files of your own CA")
        await self.keep(state, "")
        _put_away(asked)  # first: a wish that cannot be put away would bring a new root each second
        self._files.store(authority.self_signed(self._organization, self._now(), self._life))
        return True


def _put_away(asked: pathlib.Path) -> None:
    """Remove the wish.

    Raises:
        AuthorityError: it cannot be removed (it is a folder, or not ours).
    """
    try:
        asked.unlink(missing_ok=True)
    except OSError as error:
        raise AuthorityError(f"cannot remove {asked}: {error}") from error

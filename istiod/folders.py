"""A mesh without Kubernetes: folders of YAML, a folder for the CA, and tokens of a local signer."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crds.diagnostic import Position
from crds.key import ConfigKey
from istiod.ca import following, place, serving, signer, tokens
from istiod.ca.authority import AuthorityError
from istiod.ca.following import Following
from istiod.ca.signer import Signer
from istiod.config.protocols import Records, SecretRights, TokenVerifier
from istiod.config.store import ConfigStore
from istiod.lastgood.folder import FolderRecords
from istiod.settings import Settings
from istiod.source import Report, View
from istiod.supervision import Part, SettingsError, now, say
from istiod.watch import directory
from istiod.watch.files import FileSet
from wire.exposition import Family


class Folders:
    """The source of ``istiod discovery --configDir``."""

    pods_known = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files = FileSet()
        self.trust_domain = settings.trust_domain
        life = settings.features.root_life
        self._place = place.FolderPlace(pathlib.Path(settings.ca_dir), self.trust_domain, now, life)
        self._signer: Signer | None = None

    async def authority(self) -> Signer:
        """See Source.

        Raises:
            SettingsError: no folder is given, or it cannot be used.
        """
        settings = self._settings
        if not settings.ca_dir:
            raise SettingsError("--secureGRPCAddr, --mtlsAddr and --httpsAddr need --caDir")
        if not settings.token_key and (settings.ca_address or settings.mtls_address):
            raise SettingsError("--secureGRPCAddr and --mtlsAddr need --tokenKey")
        try:
            features = settings.features
            wanted = place.load_or_create(pathlib.Path(settings.ca_dir), self.trust_domain, now(), features.root_life)
            first = following.resumed(self._place.state(), wanted, now().timestamp())
            self._signer = Signer(first, signer.lives(features))
        except AuthorityError as error:
            raise SettingsError(str(error)) from error
        return self._signer

    def verifier(self, store: ConfigStore) -> TokenVerifier:
        """See Source.

        Raises:
            SettingsError: the signer's key cannot be read.
        """
        del store
        return tokens.LocalTokenVerifier(public_key(self._settings.token_key), self.trust_domain, now)

    def secret_rights(self, store: ConfigStore, report: Report) -> SecretRights | None:
        """See Source: a folder knows no rights. Its Secrets are for whoever runs there, as in Istio's file mode."""
        del store, report
        return None

    def generation(self, key: ConfigKey) -> int:
        """See Source."""
        del key
        return 0

    def records(self) -> Records | None:
        """See Source."""
        return FolderRecords(pathlib.Path(self._settings.state_dir)) if self._settings.state_dir else None

    async def follow(self, store: ConfigStore, report: Report, ready: Callable[[], None]) -> None:
        """See Source."""
        await directory.watch(self._settings.config_dirs, store, report, ready, self._files)

    def position(self, key: ConfigKey, field: str) -> Position | None:
        """See Source."""
        return self._files.position(key, field)

    def waiting(self) -> Sequence[str]:
        """See Source."""
        return ("not yet listed",)

    def watches(self) -> Sequence[Mapping[str, Any]]:
        """See Source."""
        return ()

    def counted(self) -> Iterable[Family]:
        """See Source."""
        return ()

    def age(self) -> float:
        """See Source: files are there, or they are not."""
        return 0.0

    def untrusted(self) -> Sequence[str]:
        """See Source."""
        return ()

    def names(self) -> tuple[str, ...]:
        """See Source."""
        return serving.NAMES

    def parts(self, view: View) -> Sequence[Part]:
        """See Source."""
        if self._signer is None:
            return ()
        clock = following.clock(lambda: now().timestamp(), self._settings.features)
        return (("replacement of the CA", Following(self._place, self._signer, view.proxies, clock, say).run),)

    async def close(self) -> None:
        """See Source."""


def public_key(path: str) -> ec.EllipticCurvePublicKey:
    """The token signer's public key from a PEM file.

    Raises:
        SettingsError: the file can't be read or holds no elliptic-curve public key.
    """
    try:
        key = serialization.load_pem_public_key(pathlib.Path(path).read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"--tokenKey {path}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SettingsError(f"--tokenKey {path}: no elliptic-curve public key")
    return key

"""What pods prove themselves with: service-account tokens of a key of the mesh's own, and the CA's root certificate."""

from __future__ import annotations

import datetime as dt
import pathlib

from cryptography.hazmat.primitives import serialization

from istiod.ca import keystore, place, tokens

CA_FOLDER, KEY_FOLDER, PUBLIC_KEY = "ca", "tokens", "key.pub"
_ORGANIZATION = "cluster.local"


class Credentials:
    """The keys of one mesh, kept in its folder. Tokens are renewed at half of their life."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Make the CA that istiod will find and the key that signs tokens.

        Raises:
            istiod.ca.authority.AuthorityError: the folder cannot be written.
        """
        ca = folder / CA_FOLDER
        place.load_or_create(ca, _ORGANIZATION, dt.datetime.now(dt.UTC))
        self._roots = ca / place.PUBLISHED, ca / keystore.ROOTS
        self._key = tokens.load_or_create_key(folder / "private" / "token.pem")
        public = folder / KEY_FOLDER
        public.mkdir(exist_ok=True)
        encoded = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (public / PUBLIC_KEY).write_bytes(encoded)
        self._minted: dict[tokens.Account, tuple[dt.datetime, str]] = {}

    @property
    def root(self) -> str:
        """The roots that istiod publishes now, as PEM."""
        published, own = self._roots
        return (published if published.exists() else own).read_text()

    def token(self, namespace: str, account: str, pod: str) -> str:
        """The token of a pod's service account, at least half of whose life is left."""
        now = dt.datetime.now(dt.UTC)
        whose = tokens.Account(namespace=namespace, service_account=account, pod=pod)
        since, text = self._minted.get(whose, (None, ""))
        if since is None or now - since > tokens.TTL / 2:
            text = tokens.mint(self._key, whose, now)
            self._minted[whose] = (now, text)
        return text

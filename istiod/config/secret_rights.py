"""Which service accounts could get Secrets over SDS, and which of them may: what is asked, and what was answered.

The mesh says whom it would give Secrets (istiod.mesh.secret_users), istiod.kube asks the API server for each, the store
keeps who may. Pure data (hostile-input SEC63).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from crds.key import ConfigKey

CHANGED: Final = ConfigKey("", "SecretReaders", "", "secret-readers")
"""What the store says has changed when somebody may read Secrets who might not before, or the other way round."""

Account = tuple[str, str]
"""Namespace and name of a service account."""

Readers = frozenset[Account] | None
"""The accounts that may list the Secrets of their namespace; None where nobody can be asked: all of them may."""

Users = Mapping[Account, tuple[ConfigKey, ...]]
"""Whom objects would give Secrets, and by which objects, sorted."""

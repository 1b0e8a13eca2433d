"""Which namespaces get the roots, and who owns what is written."""

from __future__ import annotations

from istiod.kube import root_certificates
from istiod.kube.root_certificates import KEY, NAME

OWNER = {"apiVersion": "v1", "kind": "Webhook", "name": "injector", "uid": "1"}


def there(roots: str, *owners: str) -> dict[tuple[str, str], dict[str, object]]:
    references = [{"uid": uid} for uid in owners]
    return {("shop", NAME): root_certificates.kept({"metadata": {"ownerReferences": references}, "data": {KEY: roots}})}


def test_a_namespace_without_them_gets_them_and_those_of_kubernetes_do_not() -> None:
    assert list(root_certificates.due(["shop", "kube-system"], {}, "new", OWNER)) == [("shop", False)]


def test_other_roots_and_another_owner_are_replaced() -> None:
    assert list(root_certificates.due(["shop"], there("old", "1"), "new", OWNER)) == [("shop", True)]
    assert list(root_certificates.due(["shop"], there("new", "2"), "new", OWNER)) == [("shop", True)]
    assert list(root_certificates.due(["shop"], there("new", "1"), "new", OWNER)) == []


def test_without_an_owner_nobody_is_asked_for() -> None:
    assert list(root_certificates.due(["shop"], there("new"), "new")) == []
    assert "ownerReferences" not in root_certificates.body("new", None)["metadata"]


def test_the_owner_is_written() -> None:
    assert root_certificates.body("new", OWNER)["metadata"]["ownerReferences"] == [OWNER]

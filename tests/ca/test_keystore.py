"""The CA's folder."""

import datetime as dt
import stat
from pathlib import Path

import pytest

from istiod.ca import authority, keystore
from tests.ca import chains

NOW = dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC)


def test_a_new_root_is_kept_and_found_again(tmp_path: Path) -> None:
    folder = keystore.Folder(tmp_path / "ca")
    first = keystore.load_or_create(folder, "cluster.local", NOW)
    again = keystore.load_or_create(keystore.Folder(tmp_path / "ca"), "cluster.local", NOW + dt.timedelta(days=1))
    assert again.roots == first.roots
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "ca").iterdir()}
    assert modes == dict.fromkeys(("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"), 0o600)


def test_a_folder_half_written_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "ca-key.pem").write_bytes(b"left by a crash")
    assert keystore.Folder(tmp_path).load() is None
    assert keystore.load_or_create(keystore.Folder(tmp_path), "cluster.local", NOW).roots


def test_a_plugged_in_intermediate_joins_the_chain(tmp_path: Path) -> None:
    for name, content in (
        ("ca-cert.pem", "I"),
        ("ca-key.pem", "K"),
        ("cert-chain.pem", "I\nJ"),
        ("root-cert.pem", "R"),
    ):
        (tmp_path / name).write_text(content)
    material = keystore.Folder(tmp_path).load()
    assert material is not None
    assert material.chain == b"I\nJ"
    (tmp_path / "cert-chain.pem").unlink()
    material = keystore.Folder(tmp_path).load()
    assert material is not None
    assert material.chain == b"I\n"


def test_unreadable_material_is_an_error_and_not_a_new_root(tmp_path: Path) -> None:
    (tmp_path / "ca-cert.pem").write_bytes(b"x")
    with pytest.raises(authority.AuthorityError, match=r"has no ca-key\.pem"):
        keystore.load_or_create(keystore.Folder(tmp_path), "cluster.local", NOW)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(authority.AuthorityError, match="cannot write"):
        keystore.load_or_create(keystore.Folder(tmp_path / "file" / "ca"), "cluster.local", NOW)


def test_a_failed_write_leaves_neither_old_file_harmed_nor_new_one_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError, match="directory"):
        keystore.write_private(tmp_path / "there", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_a_secret_of_kubernetes_own_type_is_a_ca_too() -> None:
    """Features row O2: as cert-manager makes it, with what lies above the CA in tls.crt."""
    root = authority.self_signed("x", chains.now())
    middle = chains.intermediate(root)
    parts = {"tls.crt": middle.certificate, "tls.key": middle.key, "ca.crt": root.certificate}
    found = authority.Authority(keystore.unpack(parts, "Secret cacerts"))
    assert found.anchor.encode() == root.certificate
    longer = keystore.unpack({**parts, "tls.crt": middle.certificate + root.certificate}, "Secret cacerts")
    assert longer.certificate.strip() == middle.certificate.strip()
    assert authority.Authority(longer).anchor == found.anchor
    with pytest.raises(authority.AuthorityError, match=r"has no ca-cert\.pem and no ca-key\.pem"):
        keystore.unpack({"tls.crt": b"", "other": b"x"}, "Secret cacerts")

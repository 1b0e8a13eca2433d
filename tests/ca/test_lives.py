"""How long certificates and roots live, as the operator's variables have it, and what happens when a root grows old."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from istiod import features
from istiod.ca import authority, following, keystore, place
from istiod.ca import signer as signing
from istiod.ca.signer import Signer
from tests.ca import chains
from tests.ca.test_authority import csr
from tests.ca.test_following import SLEEP, connected, world
from tests.waiting import until


async def test_an_aged_root_of_istiods_own_is_replaced_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than a fifth of its ten years is left; it signs until everybody has the new one."""
    old = authority.self_signed("cluster.local", chains.now() - dt.timedelta(days=3000))
    keystore.Folder(tmp_path / "ca").store(old)
    async with world(tmp_path / "ca", monkeypatch) as found, connected(found, tmp_path, 1):
        await until(lambda: any("since the old one ages" in line for line in found.said), "it is said")
        await until(lambda: found.signer.current.anchor.encode() != old.certificate, "the new CA signs")
        assert sum("has a new self-signed root" in line for line in found.said) == 1
        assert found.signer.current.ends()[1][2] > chains.now() + dt.timedelta(days=3600)
        assert found.handshakes_failed == []


@pytest.mark.parametrize(
    ("check", "own"), [(0.0, False), (1.0, True)], ids=["where nobody is to look", "of an operator's own CA"]
)
async def test_an_aged_root_stays(tmp_path: Path, check: float, *, own: bool) -> None:
    old = authority.self_signed("cluster.local", chains.now() - dt.timedelta(days=3000))
    held = chains.intermediate(old, life=dt.timedelta(hours=1)) if own else old
    keystore.Folder(tmp_path).store(held)
    files = place.FolderPlace(tmp_path, "cluster.local", chains.now)
    clock = following.Clock(now=(chains.now() + dt.timedelta(minutes=59)).timestamp, wait=0, check=check)
    proxies, signer = following.Proxies(clients=tuple, hasten=lambda *_: None), Signer(authority.Authority(held))
    looking = following.Following(files, signer, proxies, clock, lambda _: None)
    for _ in range(3):
        await looking.look()
    assert (tmp_path / keystore.CERTIFICATE).read_bytes() == held.certificate


def test_variables_say_how_long_certificates_live_and_when_a_root_is_old() -> None:
    said = {
        "DEFAULT_WORKLOAD_CERT_TTL": "1h",
        "MAX_WORKLOAD_CERT_TTL": "8760h",
        "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL": "10m",
        "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE": "30",
    }
    found, problems = features.read(said)
    assert problems == ()
    clock = following.clock(lambda: 0.0, found)
    assert (clock.check, clock.grace) == (600.0, 0.3)
    signer = Signer(authority.Authority(authority.self_signed("x", chains.now())), signing.lives(found))
    ends = [_life(signer, dt.timedelta(hours=asked)) for asked in (0, 2, 8760, 8761)]
    assert ends == [dt.timedelta(hours=hours) for hours in (1, 2, 8760, 8760)]
    assert signer.longest == 8760 * 3600.0


def _life(signer: Signer, asked: dt.timedelta) -> dt.timedelta:
    now = chains.now().replace(microsecond=0)
    leaf, *_ = signer.sign(csr(), SLEEP, asked, now)
    return x509.load_pem_x509_certificate(leaf.encode()).not_valid_after_utc - now

"""``bug-report``: whose proxies are in it, what is left out, what becomes of what cannot be had."""

from __future__ import annotations

import json
import stat
import tarfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.controlplane import Cluster as ApiServer
from istioctl import __main__ as program
from istioctl.bugreport import archive, redaction, selection
from istioctl.bugreport.archive import Bounds
from istioctl.bugreport.pieces import Piece
from istioctl.errors import CommandError

POD = {
    "metadata": {
        "name": "web-5f-abc",
        "namespace": "shop",
        "labels": {"app": "web", "pod-template-hash": "5f"},
        "annotations": {"team": "blue"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web-5f"}],
    }
}
KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIsecretsecret\n-----END EC PRIVATE KEY-----"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        ((), (), True),
        (("shop",), (), True),
        (("other,sh*",), (), True),
        (("other",), (), False),
        (("other", "shop"), (), True),
        (("shop/web",), (), True),
        (("shop/we",), (), False),
        (("shop//web-*",), (), True),
        (("//other*",), (), False),
        (("///app=web",), (), True),
        (("///app=w*,app=x",), (), True),
        (("///app=x",), (), False),
        (("////team=blue",), (), True),
        (("////team=red",), (), False),
        (("/////istio-*",), (), True),
        (("/////app",), (), False),
        ((), ("shop",), False),
        ((), ("shop/other",), True),
        (("shop",), ("/web",), False),
    ],
)
def test_proxies_are_chosen_as_for_istios_command(
    include: tuple[str, ...], exclude: tuple[str, ...], *, taken: bool
) -> None:
    chosen = selection.Selection(include=selection.parsed(include), exclude=selection.parsed(exclude))
    assert chosen.takes(POD, "istio-proxy") is taken


def test_only_a_namespace_that_is_excluded_whole_is_left_out() -> None:
    chosen = selection.Selection(exclude=selection.parsed(["kube-*", "shop/web"]))
    assert [chosen.namespace(name) for name in ("kube-system", "shop")] == [False, True]
    assert not selection.Selection(include=selection.parsed(["shop"])).namespace("other")


@pytest.mark.parametrize("text", ["a/b/c/d=e/f=g/h/i", "a///b"])
def test_what_is_no_spec_is_named(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["bug-report", "--include", text]) == 1
    assert repr(text) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (f"before\n{KEY}\nafter", "before\n[private EC key redacted]\nafter"),
        (json.dumps({"a": KEY}), '{"a": "[private EC key redacted]"}'),
        ("-----BEGIN PRIVATE KEY-----\nMHcsecret", "[private key redacted]"),
        (f"token {TOKEN}, and", "token [token redacted], and"),
        ("authorization: Bearer abcdefghijkl.mno", "authorization: Bearer [redacted]"),
        ('{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2Vj"}', '{"kty":"oct","k":"[redacted]"}'),
        (r'"{\"kty\":\"oct\",\"k\":\"c2VjcmV0c2VjcmV0c2Vj\"}"', r'"{\"kty\":\"oct\",\"k\":\"[redacted]\"}"'),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", None),
        ('"name": "reviews", "key": "a"', None),
    ],
)
def test_texts_lose_keys_and_tokens(said: str, left: str | None) -> None:
    assert redaction.text(said.encode()).decode() == (said if left is None else left)


def test_objects_lose_values_of_secrets() -> None:
    applied = {"kubectl.kubernetes.io/last-applied-configuration": '{"data": {"a": "c2VjcmV0"}}'}
    metadata = {"name": "a", "annotations": applied, "managedFields": [{}]}
    secret = redaction.item({"kind": "Secret", "metadata": metadata, "data": {"a": "c2VjcmV0"}})
    assert "c2VjcmV0" not in json.dumps(secret)
    assert secret["data"] == {"a": "[8 characters redacted]"}
    assert "managedFields" not in secret["metadata"]
    env = [{"name": "DB_PASSWORD", "value": "x"}, {"name": "HOST", "value": "y"}, {"name": "API_KEY", "valueFrom": {}}]
    pod = redaction.item({"metadata": {}, "spec": {"containers": [{"env": env}]}})
    assert pod["spec"]["containers"][0]["env"] == [{"name": "DB_PASSWORD", "value": "[redacted]"}, *env[1:]]


def failing(error: Exception) -> Callable[[], bytes]:
    def get() -> bytes:
        raise error

    return get


def test_pieces_are_got_side_by_side_and_one_that_fails_hides_no_other() -> None:
    both = threading.Barrier(2)

    def waiting() -> bytes:
        both.wait(30)  # ends only when two are asked at once
        return b"x"

    pieces = [Piece("a", waiting), Piece("b", waiting), Piece("c", failing(CommandError("no right")))]
    pieces.append(Piece("d", failing(KeyError("odd"))))
    added: dict[str, bytes] = {}
    made = archive.gather(pieces, Bounds(concurrency=2, seconds=60), added.__setitem__)
    assert added == {"a": b"x", "b": b"x"}
    assert made.held == {"a": 1, "b": 1}
    assert made.missing == {"c": "no right", "d": "a fault of istioctl: KeyError('odd')"}


def test_what_takes_too_long_is_told() -> None:
    over = threading.Event()

    def slow() -> bytes:
        over.wait(60)
        return b""

    pieces = [Piece("quick", lambda: b"x"), Piece("slow", slow), Piece("never", slow)]
    made = archive.gather(pieces, Bounds(concurrency=1, seconds=0.5), lambda *_: None)
    over.set()
    assert made.held == {"quick": 1}
    assert made.missing == dict.fromkeys(("slow", "never"), "the time was over (0.5 s)")


def test_an_archive_is_for_its_owner_only(tmp_path: Path) -> None:
    made = archive.Archive(str(tmp_path))
    made.add("a/b.txt", b"hello")
    (tmp_path / "out").mkdir()
    place = made.finish(tmp_path / "out")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert contents(place) == {"a/b.txt": b"hello"}
    assert [each.name for each in tmp_path.iterdir()] == ["out"], "nothing is left behind"


def contents(place: Path) -> Mapping[str, bytes]:
    with tarfile.open(place) as held:
        files = {each.name.removeprefix("bug-report/"): held.extractfile(each) for each in held}
        return {name: file.read() for name, file in files.items() if file is not None}


def apply(apiserver: ApiServer, namespace: str, *objects: dict[str, Any]) -> None:
    for each in objects:
        apiserver.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps({"apiVersion": "v1", **each}))


def pod(name: str, container: str, **labels: str) -> dict[str, Any]:
    spec = {"containers": [{"name": container, "image": "a"}], "schedulerName": "none"}
    return {"kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture
def system(apiserver: ApiServer, namespace: str) -> str:
    """A namespace with what a control plane's has, and pods that say they run. No node runs."""
    secret = {"kind": "Secret", "metadata": {"name": "cacerts"}, "stringData": {"ca-key.pem": KEY}}
    settings = {"kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": "accessLogFile: /dev/stdout"}}
    pods = (pod("istiod-1", "discovery", app="istiod"), pod("web-1", "istio-proxy"), pod("db-1", "istio-proxy"))
    apply(apiserver, namespace, secret, settings, *pods)
    running = json.dumps({"status": {"phase": "Running"}})
    for each in ("istiod-1", "web-1", "db-1"):
        apiserver.kubectl("patch", "pod", each, "-n", namespace, "--subresource=status", "--type=merge", "-p", running)
    return namespace


@pytest.mark.apiserver
def test_a_report_of_a_real_api_server(
    apiserver: ApiServer, system: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What pods would say is missing, each with its reason."""
    where = ["--kubeconfig", str(apiserver.kubeconfig), "--istio-namespace", system, "--output-dir", str(tmp_path)]
    chosen = ["--include", f"{system}//web*", "--duration", "1h"]

    assert program.main(["bug-report", *where, *chosen, "--dry-run"]) == 0
    asked = capsys.readouterr().out.split()
    assert not [*tmp_path.iterdir()]
    assert program.main(["bug-report", *where, *chosen]) == 0

    said = capsys.readouterr()
    held = contents(tmp_path / archive.NAME)
    manifest = json.loads(held["manifest.json"])
    missing = {each["path"]: each["reason"] for each in manifest["missing"]}
    assert {*asked} == missing.keys() | held.keys() - {"manifest.json"}
    assert f"{len(missing)} files are missing" in said.err
    assert missing.keys() == {each for each in asked if each.startswith(("istiod/", "proxies/"))}
    assert f"proxies/{system}/web-1/config_dump.json" in missing
    assert not [each for each in asked if "db-1" in each]
    assert "cannot forward port 15014" in missing["istiod/istiod-1/syncz.json"]
    assert "cannot read the log of" in missing[f"proxies/{system}/web-1/log.txt"]
    (found,) = (s for s in json.loads(held[f"cluster/{system}/secrets.json"]) if s["metadata"]["name"] == "cacerts")
    assert [*found["data"]] == ["ca-key.pem"]
    assert not [name for name, content in held.items() if b"MHcCAQEEIsecret" in content or b"TUhjQ0FRRUVJ" in content]
    assert b"accessLogFile" in held[f"cluster/{system}/configmaps.json"]
    assert {each["metadata"]["name"] for each in json.loads(held["cluster/pods.json"])} >= {"web-1", "istiod-1"}
    assert b"IST0102" in held["analyze.txt"]
    assert held["version.txt"].startswith(b"client version: ")

    assert program.main(["bug-report", *where, *chosen, "--full-secrets"]) == 0
    assert b"LS0tLS1CRUdJTiBF" in contents(tmp_path / archive.NAME)[f"cluster/{system}/secrets.json"]


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["bug-report", "--kubeconfig", "/absent", "--output-dir", str(tmp_path)]) == 1
    assert "no Kubernetes cluster" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        program.main(["bug-report", "--rq-concurrency", "65"])
    assert "no number from 1 to 64" in capsys.readouterr().err

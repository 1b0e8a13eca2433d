"""What istioctl reads: dumps of Envoy, pages of istiod, log lines, files of a user, answers of an API server."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

from kubernetes.client.exceptions import ApiException

from istioctl import __main__ as istioctl
from istioctl import ca, cluster, dump, internal_debug, objects, options, syncz
from istioctl.errors import CommandError
from istioctl.explain import live, log_line
from istioctl.testing.envoys import replies
from tests.fuzz import of_objects
from tests.fuzz.target import Target, text

ROOT = Path(__file__).parents[2]
FOLDER = Path("/dev/shm/fuzz-istioctl")  # noqa: S108 (memory: thousands of times)
GOLDEN = ROOT / "tests" / "golden" / "istioctl"
LINE = (
    '[2026-01-01T00:00:00.000Z] "GET /a?b=c HTTP/1.1" 503 UF upstream_reset - "-" 0 91 3 - "-" "curl" "id" "web:80" '
    '"10.0.0.1:80" outbound|80||web.shop.svc.cluster.local - 10.0.0.2:80 10.0.0.3:1 - default '
    "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/web http[0]\n"
)


_SHOWN = (
    *(
        ("proxy-config", what)
        for what in ("cluster", "listener", "route", "endpoint", "eds", "secret", "bootstrap", "all")
    ),
    *(("proxy-config", what, "-o", "yaml") for what in ("cluster", "listener", "route", "all")),
    ("experimental", "authz", "check"),
)


def said(command: Sequence[str]) -> None:
    """A whole command: it ends with a code, whatever it reads."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told), contextlib.suppress(SystemExit):
        istioctl.main(list(command))


def written(raw: bytes, name: str) -> str:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / name
    path.write_bytes(raw)
    return str(path)


def dumps(raw: bytes) -> None:
    """A configuration dump, as some of the commands show it; which, the input decides."""
    file = written(raw, "dump.json")
    chosen = zlib.crc32(raw) % len(_SHOWN)
    for what in (*_SHOWN, *_SHOWN)[chosen : chosen + 1]:
        said((*what, "--file", file))
    said(("proxy-config", "secret", "--file", file))
    with contextlib.suppress(CommandError):
        live.of_dump(dump.parse(raw, "x"))


def statuses(raw: bytes) -> None:
    """/clusters, /debug/syncz and other pages."""
    file = written(raw, "clusters.json")
    said(("proxy-config", "endpoint", "--file", file))
    for read in (syncz._parse, internal_debug._read):
        with contextlib.suppress(CommandError):
            read("istiod", raw)
    with contextlib.suppress(CommandError), contextlib.redirect_stderr(io.StringIO()):
        objects.of_page("istiod", raw)
    with contextlib.suppress(CommandError):
        for one in live._listed("istiod", raw):
            live._name(one)
            live._party(one)


def analysed(raw: bytes) -> None:
    said(("analyze", "--use-kube=false", written(raw, "some.yaml")))


def injected(raw: bytes) -> None:
    said(
        (
            "kube-inject",
            "-f",
            written(raw, "pods.yaml"),
            "--injectConfigFile",
            written(b"policy: enabled", "config"),
            "--valuesFile",
            written(b"{}", "values"),
            "--meshConfigFile",
            written(b"{}", "meshconfig"),
        )
    )


def explained(raw: bytes) -> None:
    """A line of an access log about a mesh of files."""
    line = text(raw).replace("\0", "")
    with contextlib.suppress(CommandError):
        log_line.parsed(line)
    replies.logged([line.replace("curl", f"{replies.TAG}1")])
    mesh = FOLDER / "mesh.yaml"
    if not mesh.exists():
        written(of_objects.SHOP.encode(), "mesh.yaml")
    said(("explain", "--from", "web-1.shop", "-f", str(mesh), "--log-line", line))


def compared(raw: bytes) -> None:
    """Two meshes."""
    before = written(of_objects.SHOP.encode(), "mesh.yaml")
    said(("diff", before, written(raw, "after.yaml")))


def tested(raw: bytes) -> None:
    """A file of tests."""
    written(of_objects.SHOP.encode(), "mesh.yaml")
    said(("test", written(raw, "tests.yaml")))


def refused(raw: bytes) -> None:
    """What an API server says of an error, and what a Secret holds."""

    error = ApiException(status=500, reason=text(raw))
    error.body = text(raw)
    assert cluster.reason_of(error)
    with contextlib.suppress(CommandError):
        ca._value({"data": {"a": text(raw)}}, "a")
    with contextlib.suppress(argparse.ArgumentTypeError):
        options.seconds(text(raw))


def _dump() -> list[object]:
    """A small one."""
    whole = json.loads((GOLDEN / "config_dump.json").read_bytes())
    for section in whole["configs"]:
        for name, held_there in section.items():
            if isinstance(held_there, list):
                section[name] = held_there[:2]
    return [whole]


def _targets() -> tuple[Target, ...]:
    whole = json.dumps(_dump()[0]).encode()
    shop = of_objects.SHOP.encode()
    suite = b"""mesh: [mesh.yaml]
tests:
  - name: a
    from: web-1.shop
    request: {url: "http://web/", headers: {a: b}}
    expect: {status: 200, reaches: web-1, timeout: 1s}
"""
    return (
        Target(name="config-dump", call=dumps, seeds=(whole, b'{"configs": [{"@type": "x"}]}')),
        Target(
            name="pages-of-istiod",
            call=statuses,
            seeds=(
                (GOLDEN / "clusters.json").read_bytes()[:20_000],
                b'[{"proxy": "a.b", "types": {"Cluster": {"sync": "SYNCED", "error": ""}}, "cluster_id": "k"}]',
                b'[{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {}}]',
            ),
        ),
        Target(name="analyze", call=analysed, seeds=(shop, (Path(__file__).parent / "mesh.yaml").read_bytes())),
        Target(name="kube-inject", call=injected, seeds=(shop,)),
        Target(name="log-line", call=explained, seeds=(LINE.encode(), b'{"downstream_local_address": "a:1"}')),
        Target(name="diff", call=compared, seeds=(shop,)),
        Target(name="test-files", call=tested, seeds=(suite,)),
        Target(name="api-errors", call=refused, seeds=(b'{"message": "x"}', b"[1]")),
    )


TARGETS = _targets()

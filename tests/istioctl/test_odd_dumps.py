"""Files that are nearly a dump of Envoy, or no dump at all: one line names file and reason, and nothing crashes."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from istioctl import __main__ as istioctl
from istioctl import dump
from tests.istioctl.test_control_plane import istiod
from tests.istioctl.test_describe import WORLD

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "istioctl"
DUMP = (GOLDEN / "config_dump.json").read_bytes()
POD = "web-1.default"
OWN = DUMP.replace(b"productpage-v1-qqdfq5v9s-42nff.default", POD.encode())
ENTRY = f'{{"configs": [{{"@type": "{dump.ADMIN}ListenersConfigDump.DynamicListener", "name": "virtualInbound"}}]}}'
NO_DUMPS: Mapping[str, tuple[bytes, str]] = {
    "empty": (b"", "nothing is in it"),
    "blank": (b" \n", "nothing is in it"),
    "truncated": (DUMP[: len(DUMP) // 2], "not JSON: "),
    "binary": (gzip.compress(DUMP), "not JSON, no text at all"),
    "zeros": (bytes(64), "not JSON: "),
    "deep": (b"[" * 100_000, "not JSON: "),
    "clusters": ((GOLDEN / "clusters.json").read_bytes(), "not a configuration dump of Envoy"),
    "text": ((GOLDEN / "listener.txt").read_bytes(), "not JSON: "),
    "list": (b"[]", "not a configuration dump of Envoy"),
    "old": (DUMP.replace(b"envoy.admin.v3.", b"envoy.admin.v2alpha."), "an Envoy whose API was v2alpha; only v3"),
    "part": (ENTRY.encode(), "only a part of a dump (ListenersConfigDump.DynamicListener)"),
}
"""What is no dump: its content, and the reason."""
SECTIONS = ("all", "bootstrap", "cluster", "listener", "route", "eds", "secret", "ecds")


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[dict[str, list[str]]]:
    """Commands that read a dump, but for its name, which is the last word."""
    (tmp_path / "world.yaml").write_text(yaml.safe_dump_all(WORLD))
    describe = ["x", "describe", "--objects", str(tmp_path / "world.yaml"), "--file"]
    client = {"connectionId": f"sidecar~10.0.0.1~{POD}~default.svc.cluster.local", "labels": {}, "metadata": {}}
    pages = {
        "/debug/adsz": {"clients": [client]},
        "/debug/registryz": [],
        f"/debug/config_dump?proxyID={POD}": json.loads(OWN),
    }
    found = {f"proxy-config {each}": ["proxy-config", each, "--file"] for each in SECTIONS}
    found["authz"] = ["x", "authz", "check", "--file"]
    for kind, name in (("pod", "web-1"), ("service", "web")):
        found[f"describe {kind}"] = [*describe[:2], kind, name, *describe[2:]]
    with istiod(pages) as address:
        plane = ["--monitoring-address", address]
        found["proxy-status"] = ["proxy-status", "web-1.default", *plane, "--file"]
        found["explain"] = ["explain", "--from", "web-1", "http://web/", *plane, "--dump"]
        yield found


@pytest.mark.parametrize("kind", [*NO_DUMPS, "folder", "absent"])
def test_what_is_no_dump_is_named_with_the_reason(
    kind: str, commands: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, reason = tmp_path / "dump.json", {"folder": "Is a directory", "absent": "No such file"}.get(kind, "")
    if kind == "folder":
        file.mkdir()
    elif kind != "absent":
        content, reason = NO_DUMPS[kind]
        file.write_bytes(content)
    for name, command in commands.items():
        code = istioctl.main([*command, str(file)])
        out, err = capsys.readouterr()
        assert (name, code, out, err.count("\n")) == (name, 1, "", 1), err
        assert str(file) in err, name
        assert reason in err, name


def test_what_is_no_page_of_clusters_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "clusters.json"
    for content, _ in NO_DUMPS.values():
        file.write_bytes(content)
        if content != NO_DUMPS["clusters"][0]:
            assert istioctl.main(["proxy-config", "endpoint", "--file", str(file)]) == 1
            assert capsys.readouterr().err.startswith(f"Error: {file}: not Envoy's /clusters?format=json")


def test_a_dump_of_another_proxy_answers_nothing_about_this_one(
    commands: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dump.json"
    file.write_bytes(DUMP)
    for name in ("describe pod", "describe service", "explain"):
        assert istioctl.main([*commands[name], str(file)]) == 1
        said = f"{file}: a dump of productpage-v1-qqdfq5v9s-42nff.default, not of {POD}"
        assert capsys.readouterr().err == f"Error: {said}\n", name


def _bare(sections: tuple[str, ...] = (), **more: object) -> bytes:
    """A dump of the pod with some sections only, and others that nobody knows."""
    whole = json.loads(OWN)
    wanted = ("BootstrapConfigDump", *sections)
    kept = [each for each in whole["configs"] if each["@type"].removeprefix(dump.ADMIN) in wanted]
    new = {"@type": f"{dump.ADMIN}FutureConfigDump", "dynamic_things": [more]}
    return json.dumps({"configs": [*kept, new]}).encode()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("whole", OWN),
        ("gateway", OWN.replace(b"sidecar~", b"router~").replace(b"virtualInbound", b"0.0.0.0_8080")),
        ("newer", _bare(("ClustersConfigDump", "ListenersConfigDump", "RoutesConfigDump"), new_field={"a": [1]})),
        ("without listeners", _bare(("ClustersConfigDump",))),
        ("without anything", _bare()),
    ],
)
def test_dumps_of_other_proxies_and_versions_are_shown(
    kind: str, content: bytes, commands: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dump.json"
    file.write_bytes(content)
    for name, command in commands.items():
        code = istioctl.main([*command, str(file)])
        out, err = capsys.readouterr()
        assert (kind, name, code, err) == (kind, name, 0, ""), err
        assert out


def _oddly(whole: Any, chance: random.Random) -> Any:
    """The same with one part of another form."""
    parent, key = None, None
    here = whole
    while isinstance(here, dict | list) and here and (parent is None or chance.random() < 0.9):
        key = chance.choice(list(here)) if isinstance(here, dict) else chance.randrange(len(here))
        parent, here = here, here[key]
    if parent is not None:
        parent[key] = chance.choice(["odd", 7, None, [], {}, ["odd"], {"odd": 1}, [[]]])
    return whole


def test_a_dump_with_odd_parts_is_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance, refused = random.Random(8), 0
    text = (GOLDEN / "config_dump.json").read_text()
    path = tmp_path / "dump.json"
    commands = [("proxy-config", what) for what in ("cluster", "listener", "route", "endpoint", "secret", "bootstrap")]
    for _ in range(40):
        whole = json.loads(text)
        for section in whole["configs"]:
            section.update({name: held[:2] for name, held in section.items() if isinstance(held, list)})
        for _ in range(3):
            _oddly(whole, chance)
        path.write_text(json.dumps(whole))
        command = chance.choice([*commands, ("experimental", "authz", "check")])
        code = istioctl.main([*command, "--file", str(path)])
        said = capsys.readouterr().err
        assert (code, said.count("\n")) in ((0, 0), (1, 1)), said
        refused += code
    assert refused
    path.write_text(json.dumps({"configs": [{"@type": f"{dump.ADMIN}ListenersConfigDump", "static_listeners": 7}]}))
    assert istioctl.main(["proxy-config", "listener", "--file", str(path)]) == 1
    assert f"{path}: a part of it has not the form that Envoy gives it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ""),
        (gzip.compress(DUMP), "no UTF-8: invalid start byte at byte 1"),
        (DUMP[: len(DUMP) // 2], "M0"),
        (DUMP, "M0"),
        (None, ""),
    ],
    ids=["empty", "binary", "truncated", "dump", "folder"],
)
def test_what_is_no_mesh_is_named_with_the_reason(
    content: bytes | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "mesh.json"
    if content is None:
        place.mkdir()
    else:
        place.write_bytes(content)
    for code, command in (
        (2, ["diff", str(place), str(place)]),
        (2, ["diff", "-f", str(place), "--new", str(place)]),
        (1, ["explain", "--from", "web", "http://web/", "-f", str(place)]),
    ):
        found = istioctl.main(command)
        out, err = capsys.readouterr()
        assert (found, out, err.count("\n")) == (code, "", 2 if reason else 1), err
        assert re.match("Error: no Kubernetes object (that can be used )?in ", err), err
        assert str(place) in err
        assert reason in err

"""Files that are nearly a dump of Envoy: a part of another form is said in one line, and nothing crashes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from istioctl import __main__ as istioctl
from istioctl import dump

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "istioctl"


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

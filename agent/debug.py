"""The debug pages of the status port, for the pod itself: /debug/ndsz and /debug/pprof/... (row C8).

They name the mesh's hosts and the agent's insides, so only loopback sees them, as on Istio. What the pages of pprof
hold is pprof.py's, which is imported with the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

PREFIX: Final = "/debug/"
_NAMES: Final = "/debug/ndsz"
_PROFILES: Final = "/debug/pprof"
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    body: bytes
    type: str = _TEXT


async def page(method: str, target: str, table: Callable[[], bytes], *, local: bool) -> Page:
    """The page of a path with its query; ``table`` gives the names as the control plane sent them."""
    path, _, query = target.partition("?")
    if not local:
        return _said(403, "only for requests from within the pod")
    if method != "GET":
        return _said(405, "only GET")
    if path == _NAMES:
        return Page(200, _names(table()), _JSON)
    if path == _PROFILES or path.startswith(f"{_PROFILES}/"):
        return await _profile(path.removeprefix(_PROFILES).strip("/"), query)
    return _said(404, "not found; there are /debug/ndsz and /debug/pprof/")


async def _profile(name: str, query: str) -> Page:
    from agent import pprof  # noqa: PLC0415 (what most agents are never asked for)

    if not name:
        return _said(200, pprof.index())
    if name in pprof.ABSENT:
        return _said(501, f"/debug/pprof/{name} is not there: {pprof.ABSENT[name]}")
    if name not in pprof.PAGES:
        return _said(404, f"there is no /debug/pprof/{name}; /debug/pprof/ lists what there is")
    asked = dict(pair.partition("=")[::2] for pair in query.split("&"))
    try:
        return _said(200, await pprof.PAGES[name](asked))
    except pprof.QuestionError as error:
        return _said(400, str(error))
    except pprof.BusyError as error:
        return _said(409, str(error))


def _names(table: bytes) -> bytes:
    """The table as Istio's agent prints it; an empty object where the agent knows no names."""
    if not table:
        return b"{}\n"
    from google.protobuf import json_format  # noqa: PLC0415 (who has a table has loaded it; the others need not)

    from protos import nds_pb2  # noqa: PLC0415 (as above)

    found: Any = json_format.MessageToDict(nds_pb2.NameTable.FromString(table))
    return json.dumps(found).encode() + b"\n"


def _said(status: int, text: str) -> Page:
    return Page(status, (text if text.endswith("\n") else f"{text}\n").encode())

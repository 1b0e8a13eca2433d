"""All fuzz targets. A new parser of outside input joins one of the files below; test_complete.py finds the missing."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz import of_agent, of_commands, of_dns, of_gate, of_http, of_objects, of_wire
from tests.fuzz.target import Target

TARGETS: Mapping[str, Target] = {
    each.name: each
    for part in (of_wire, of_http, of_objects, of_gate, of_agent, of_dns, of_commands)
    for each in part.TARGETS
}

"""Write docs/fields.md: every field that is read and not honoured, from the table that findings are made of.

``python -m tools.fields FOLDER`` writes it below another folder than the repository's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from crds import registry, unhonoured

ROOT = Path(__file__).resolve().parent.parent
NAME = "docs/fields.md"
HEAD = """\
# Fields without effect

<!-- Written by make generate from crds/unhonoured.py and crds/registry.py; not to be edited. -->

What is read and not honoured, by kind. Each is reported on the object that says it (`M0108` in its status, at
`/debug/diagnosticsz`, and by the webhook as a warning). `[]` is any item, `..` any steps in between. Fields that stand
nowhere here have an effect. [limits.md](limits.md) says what else does not work.
"""
KINDS = """
## Kinds without effect

An object of these kinds is reported as a whole:
"""


def text() -> str:
    """The page."""
    lines = [HEAD]
    for kind in sorted({row.kind for row in unhonoured.ROWS}):
        lines += [f"## {kind}\n", "| field | when | why |", "|---|---|---|"]
        rows = [row for row in unhonoured.ROWS if row.kind == kind]
        lines += [f"| `{row.field}` | {row.when or 'always'} | {row.why} |" for row in rows]
        lines.append("")
    idle = sorted(
        f"- {kind} ({group})"
        for (group, kind), info in registry.KINDS.items()
        if info.effect is registry.Effect.NOT_YET
    )
    return "\n".join([*lines, *KINDS.strip().splitlines(), "", *idle, ""])


def main(root: Path) -> None:
    """Write the page anew."""
    path = root / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT)

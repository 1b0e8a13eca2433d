"""Write the CustomResourceDefinitions: one YAML file a kind into crds/, and the same into the chart base.

``python -m tools.crds FOLDER`` writes them below another folder than the repository's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from crds.schema import definition

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("crds", "charts/base/files/crds")
HEAD = "# Written by make generate from crds/schema and the models in crds; not to be edited.\n"


class _Plain(yaml.SafeDumper):
    """Lists under their keys, and no anchors: what people and every YAML reader take."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def texts() -> dict[str, str]:
    """File name -> its text."""
    return {
        name: HEAD + yaml.dump(made, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
        for name, made in definition.all_kinds().items()
    }


def main(root: Path) -> None:
    """Write all files anew; those of kinds that are gone go."""
    made = texts()
    for folder in (root / name for name in FOLDERS):
        folder.mkdir(parents=True, exist_ok=True)
        for old in set(folder.glob("*.yaml")) - {folder / name for name in made}:
            old.unlink()
        for name, text in made.items():
            (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT)

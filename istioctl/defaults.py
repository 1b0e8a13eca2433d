"""What flags are without being given: of the environment, of the user's file, or built in; ``istioctl x config list``.

As with Istio, a variable goes before the file, and a flag before both. Of the flags that users of Istio's istioctl can
set like this only ``--istioNamespace`` is one here.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crds import text
from istioctl import output
from istioctl.errors import CommandError
from wire import names

ISTIO_NAMESPACE: Final = "istioNamespace"
_FILE: Final = "ISTIOCONFIG"
_USUAL: Final = "~/.istioctl/config.yaml"
_BUILT_IN: Final = {ISTIO_NAMESPACE: names.ROOT_NAMESPACE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A flag's value where nobody gives it, and whose word that is."""

    flag: str
    value: str
    source: str


def register(commands: Any) -> None:
    """Add the command below ``experimental``."""
    parser = commands.add_parser("config", help="what flags are without being given", allow_abbrev=False)
    each = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "list", help="flags, their values, and where these come from", allow_abbrev=False
    )
    each.set_defaults(run=_list)


def settings() -> Iterator[Setting]:
    """All flags that can be set like this, by name.

    Raises:
        CommandError: the user's file cannot be read.
    """
    file, said = _file(), _said()
    of_file = {key.lower(): value for key, value in said.items() if value is not None}
    for flag, built_in in sorted(_BUILT_IN.items()):
        variable = f"ISTIOCTL_{flag.upper()}"
        if value := os.environ.get(variable):
            yield Setting(flag=flag, value=value, source=f"${variable}")
        elif flag.lower() in of_file:
            yield Setting(flag=flag, value=str(of_file[flag.lower()]), source=str(file))
        else:
            yield Setting(flag=flag, value=built_in, source="default")


def value_of(flag: str) -> str:
    """What a flag is where nobody gives it.

    Raises:
        CommandError: the user's file cannot be read.
    """
    return next(each.value for each in settings() if each.flag == flag)


def _list(_: argparse.Namespace) -> int:
    known = {flag.lower() for flag in _BUILT_IN}
    for key in sorted(key for key in _said() if key.lower() not in known):
        output.complain(f"{_file()}: {key}: there is no such flag here", "Warning")
    rows = [(each.flag, each.value, each.source) for each in settings()]
    output.say(output.table(("FLAG", "VALUE", "FROM"), rows))
    return 0


def _file() -> Path:
    return Path(os.environ.get(_FILE) or _USUAL).expanduser()


def _said() -> Mapping[str, Any]:
    file = _file()
    try:
        found = text.load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    except (UnicodeDecodeError, text.UnreadableError) as error:
        raise CommandError(f"{file}: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise CommandError(f"{file}: no mapping of flags to values")
    return {str(key): value for key, value in found.items()}

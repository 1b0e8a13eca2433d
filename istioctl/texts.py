"""Texts of files that users name: UTF-8, with or without a byte order mark; ``-`` is the standard input.

Which files of a folder count, and what their texts mean, is left to the commands.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from istioctl.errors import CommandError

STDIN: Final = "-"


def read(path: str) -> str:
    """The text of a file.

    Raises:
        CommandError: it cannot be read, or is no UTF-8.
    """
    try:
        content = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandError(f"{path}: no UTF-8: {error.reason} at byte {error.start}") from error

"""What commands fail with: one line for the user that names the object and the reason, and the exit code."""

from __future__ import annotations

from typing import Final

INTERRUPTED: Final = 130
"""The exit code of programs that Ctrl-C ends: 128 and the signal's number."""


class CommandError(Exception):
    """The command cannot do what was asked; the message is all that the user sees."""

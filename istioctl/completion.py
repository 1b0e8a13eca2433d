"""``istioctl completion SHELL`` and ``istioctl options``: the program about itself (row U8).

What a shell runs is argcomplete's: it asks istioctl at each press of TAB, so that what is completed is what this
version takes, without a list that grows stale.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, Final

from istioctl import options, output

SHELLS: Final = ("bash", "zsh", "fish", "powershell")
_ASKED: Final = "_ARGCOMPLETE"
"""What argcomplete's scripts set in the environment of a program that is to say how a line goes on."""
_GLOBAL: Final = "The following options can be passed to any command:"
_HOW: Final = """Bash:       source <(istioctl completion bash)
Zsh:        source <(istioctl completion zsh)
fish:       istioctl completion fish | source
PowerShell: istioctl completion powershell | Out-String | Invoke-Expression

In the file that the shell reads when it starts (~/.bashrc, ~/.zshrc, ~/.config/fish/config.fish, $PROFILE) the line
holds for every session."""


def register(subparsers: Any) -> None:
    """Add both commands."""
    parser = subparsers.add_parser(
        "completion",
        help="what makes a shell complete commands and flags",
        description=_HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=_completion)
    about = subparsers.add_parser("options", help="the flags that all commands have", allow_abbrev=False)
    about.set_defaults(run=_options)


def answer(parser: argparse.ArgumentParser) -> None:
    """Tell the shell how its line may go on, and end, if that is what it asks."""
    if _ASKED in os.environ:
        import argcomplete  # noqa: PLC0415 (a press of TAB needs it, no command does)

        argcomplete.autocomplete(parser)


def _completion(given: argparse.Namespace) -> int:
    from argcomplete import shell_integration  # noqa: PLC0415 (20 ms that other commands need not pay)

    output.say(shell_integration.shellcode(["istioctl"], shell=given.shell))
    return 0


def _options(_: argparse.Namespace) -> int:
    parents = [options.shared(inherited=False)]
    shown = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, description=_GLOBAL, add_help=False, parents=parents, allow_abbrev=False
    )
    output.say(shown.format_help().lstrip())
    return 0

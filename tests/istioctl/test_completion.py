"""What a shell completes, asked of a real bash, and what the program says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from istioctl import __main__ as program

PRESS_TAB = """
source <(istioctl completion bash)
COMP_WORDS=(istioctl x describe po); COMP_CWORD=3; COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
_python_argcomplete istioctl
echo "${COMPREPLY[@]}"
"""


def test_bash_completes_commands_of_commands() -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", PRESS_TAB], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["pod", "po"], done.stderr


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("zsh", "#compdef istioctl\n"),
        ("fish", "complete --command istioctl "),
        ("powershell", "Register-ArgumentCompleter -Native -CommandName istioctl "),
    ],
)
def test_each_shell_has_its_own_script(shell: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["completion", shell]) == 0
    assert line in capsys.readouterr().out


def test_options_are_those_of_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["options"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("The following options can be passed to any command:\n")
    for flag in ("--kubeconfig", "--context", "--namespace", "--istioNamespace"):
        assert flag in said

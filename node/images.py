"""Images: which local command a container image stands for. Pure.

There is no registry and no file system of an image here: an image is a name for a program of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What runs for an image: ``entrypoint`` and ``command`` as in a Dockerfile's ENTRYPOINT and CMD.

    ``scripts`` are small shell programs that the container finds on its PATH.
    """

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)

    def argv(self, command: tuple[str, ...], args: tuple[str, ...]) -> tuple[str, ...]:
        """The command line for a container's ``command`` and ``args`` (Kubernetes' rules for the four cases)."""
        if command:
            return (*command, *args)
        return (*self.entrypoint, *(args or self.command))


_BOOKINFO = re.compile(r"examples-bookinfo-(productpage|details|ratings|reviews)-(v\d+)")
_HELLOWORLD = re.compile(r"examples-helloworld-(v\d+)")
# Images of nothing but common tools: their containers bring a command of their own.
_TOOLS = frozenset({"alpine", "busybox", "debian", "ubuntu", "bash", "python", "netshoot"})


def short_name(image: str) -> str:
    """The last part of an image's name, without registry, digest and tag."""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[0]


def table(python: str, extra: Mapping[str, Image] | None = None) -> Callable[[str], Image | None]:
    """The function from image to program; ``python`` runs our own programs, ``extra`` (by short name) wins."""
    pilot_agent = (python, "-m", "agent")
    proxy = Image(entrypoint=pilot_agent, scripts={"pilot-agent": f'#!/bin/sh\nexec {python} -m agent "$@"\n'})
    known = {
        "proxyv2": proxy,
        "auto": proxy,  # a gateway's image before injection has replaced it
        "pilot": Image(entrypoint=(python, "-m", "istiod")),
        "curl": Image(entrypoint=("curl",), command=("--help",)),
        "go-httpbin": Image(entrypoint=(python, "-m", "examples.httpbin")),
        "httpbin": Image(entrypoint=(python, "-m", "examples.httpbin")),
        "tcp-echo-server": Image(entrypoint=(python, "-m", "examples.tcp_echo")),
        **{name: Image(command=("sh",)) for name in _TOOLS},
        **(extra or {}),
    }

    def find(image: str) -> Image | None:
        name = short_name(image)
        if name in known:
            return known[name]
        if found := _BOOKINFO.fullmatch(name):
            return Image(entrypoint=(python, "-m", "examples.bookinfo", *found.groups()))
        if found := _HELLOWORLD.fullmatch(name):
            env = {"SERVICE_VERSION": found[1]}
            return Image(entrypoint=(python, "-m", "examples.helloworld"), env=env)
        return None

    return find

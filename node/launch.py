"""Turns itself into a container: enters namespaces, builds a root file system, drops rights, executes the command.

Runs as a program of its own (``python -I -S launch.py SPEC FD``) between meshnode and the container's command, since
namespaces and rights belong to a process. Standard library only, so that it starts in some 15 ms.

The root is an overlay of the host's: the container sees the machine's programs at their own paths, and what it writes
goes to a tmpfs that ends with its last process. So nothing is written to the host, and no mount outlives a crash.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import sys
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWUTS, _NEWNET = 0x00020000, 0x04000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 24, 38
_MOUNT_POINT = 4
"""The place of a mount point in a line of mountinfo (proc_pid_mountinfo(5))."""
_KERNEL = ("/proc", "/sys", "/dev")
_FRESH = ("/run", "/tmp")  # noqa: S108 (the container gets its own)
_HIDING = ("/run/", "/tmp/", "/var/run/")  # noqa: S108 (what lies there must be mounted to be seen)


def _check(result: int, what: str) -> None:
    """Raise what errno says if a call into libc failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(_LIBC.mount(*arguments), f"mount {kind or source} on {target}")


def _unescape(text: str) -> str:
    """A path of mountinfo, where blanks are written as octal."""
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def host_mounts(mountinfo: str) -> list[str]:
    """Mount points of the host, outermost first, without the root and without what the container gets afresh."""
    points = {
        _unescape(line.split()[_MOUNT_POINT]) for line in mountinfo.splitlines() if len(line.split()) > _MOUNT_POINT
    }
    skipped = (*_KERNEL, *_FRESH)
    return sorted(p for p in points if p != "/" and not any(p == s or p.startswith(s + "/") for s in skipped))


def _overlay(lower: str, target: str, scratch: pathlib.Path, number: int) -> None:
    """Mount a writable view of ``lower`` on ``target``; what is written stays in the scratch tmpfs."""
    upper, work = scratch / f"u{number}", scratch / f"w{number}"
    upper.mkdir()
    work.mkdir()
    if ":" in lower or "," in lower:
        raise OSError(f"cannot overlay {lower}: its name holds ':' or ','")
    _mount("overlay", target, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")


def _build_root(spec: dict[str, Any]) -> str:
    """Mount a private view of the whole machine; its path."""
    scratch = pathlib.Path(spec["scratch"])
    mounts = host_mounts(pathlib.Path("/proc/self/mountinfo").read_text())
    _mount("tmpfs", str(scratch), "tmpfs", _NOSUID | _NODEV, "mode=755")
    root = scratch / "root"
    root.mkdir()
    _overlay("/", str(root), scratch, 0)
    for number, point in enumerate(mounts, start=1):
        target = str(root) + point
        if os.path.isdir(target) and os.path.isdir(point):  # noqa: PTH112 (paths of the kernel, as text)
            try:
                _overlay(point, target, scratch, number)
            except OSError:  # not every file system can be under an overlay
                _mount(point, target, "", _BIND | _REC)
                _mount("", target, "", _BIND | _REMOUNT | _RDONLY)
    for point in _KERNEL:
        _mount(point, str(root) + point, "", _BIND | _REC)
    for point in _FRESH:
        _mount("tmpfs", str(root) + point, "tmpfs", _NOSUID | _NODEV, "mode=1777")
    _mount("tmpfs", str(root / "dev/shm"), "tmpfs", _NOSUID | _NODEV, "mode=1777")
    return str(root)


def _bind(descriptor: int, target: str) -> str:
    """Mount an open file or folder at a path inside the new root, which is the root now; where that path leads."""
    source = f"/proc/self/fd/{descriptor}"
    point = pathlib.Path(target)
    if pathlib.Path(source).is_dir():
        point.mkdir(parents=True, exist_ok=True)
    else:
        point.parent.mkdir(parents=True, exist_ok=True)
        point.touch()
    resolved = str(point.resolve())
    _mount(source, resolved, "", _BIND | _REC)
    return resolved


def _bind_all(mounts: list[dict[str, Any]], descriptors: list[int]) -> None:
    """Mount what the container sees; read-only last, since a mount may lie inside of a read-only one."""
    fixed = []
    for descriptor, mount in zip(descriptors, mounts, strict=True):
        target = _bind(descriptor, mount["target"])
        os.close(descriptor)
        if mount["read_only"]:
            fixed.append(target)
    for target in fixed:
        _mount("", target, "", _BIND | _REMOUNT | _RDONLY)


def _write(path: str, text: str, mode: int) -> None:
    """Write a file of the container's own, in place of what the host has there (often a link)."""
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_text(text)
    file.chmod(mode)


def _reveal(path: str) -> None:
    """Let any user walk to ``path``, which may lie in somebody's home; only this container sees the change."""
    for parent in pathlib.Path(path).parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            with contextlib.suppress(OSError):  # a read-only view; the command's own start says what it cannot reach
                parent.chmod(mode | 0o001)


def _enter_new(spec: dict[str, Any]) -> None:
    """Make the container's own view of network, mounts and host name."""
    with pathlib.Path(spec["netns"]).open("rb") as network:
        _check(_LIBC.setns(network.fileno(), _NEWNET), "enter the pod's network namespace")
    _check(_LIBC.unshare(_NEWNS | _NEWUTS), "unshare mounts")
    _mount("none", "/", "", _REC | _PRIVATE)
    socket.sethostname(spec["hostname"])
    hiding = (*_HIDING, *(m["target"].rstrip("/") + "/" for m in spec["mounts"]))
    hidden = [path for path in spec["shown"] if path.startswith(hiding)]
    mounts = [*spec["mounts"], *({"source": path, "target": path, "read_only": False} for path in hidden)]
    sources = [os.open(m["source"], os.O_PATH) for m in mounts]
    os.chroot(_build_root(spec))
    os.chdir("/")
    _bind_all(mounts, sources)
    for path, (text, mode) in spec["files"].items():
        _write(path, text, mode)
    for path in spec["shown"]:
        _reveal(path)


def _join(spec: dict[str, Any]) -> None:
    """Enter the view of a container that runs (``kubectl exec``)."""
    home = f"/proc/{spec['join']}"
    root = os.open(f"{home}/root", os.O_PATH)
    for kind, flag in (("net", _NEWNET), ("uts", _NEWUTS), ("mnt", _NEWNS)):
        with pathlib.Path(f"{home}/ns/{kind}").open("rb") as namespace:
            _check(_LIBC.setns(namespace.fileno(), flag), f"enter {kind}")
    os.fchdir(root)
    os.chroot(".")
    os.close(root)


def _drop(spec: dict[str, Any]) -> None:
    """Keep only the rights that the container has: capabilities, groups, group, user."""
    last = int(pathlib.Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in set(range(last + 1)) - set(spec["capabilities"]):
        _check(_LIBC.prctl(_CAPBSET_DROP, capability, 0, 0, 0), "drop a capability")
    os.setgroups(spec["groups"])
    os.setgid(spec["gid"])
    os.setuid(spec["uid"])
    if spec["no_new_privileges"]:
        _check(_LIBC.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs")
    # After the change of user, which clears it. A container must not outlive a killed meshnode.
    _check(_LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "set the parent-death signal")


def run(spec: dict[str, Any]) -> None:
    """Become the container's command. Returns never.

    Raises:
        OSError: a step failed; the message says which.
    """
    if not spec["argv"]:
        raise OSError("no command is given")
    if spec["join"]:
        _join(spec)
    else:
        _enter_new(spec)
    _drop(spec)
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(spec["cwd"])
    os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 (the container's own command, no shell)


def main(argv: list[str]) -> int:
    """``launch.py SPEC FD``: run the spec in that JSON file; tell FD what failed (it closes on success)."""
    descriptor = int(argv[2])
    os.set_inheritable(descriptor, False)  # noqa: FBT003 (the standard library's own signature)
    try:
        run(json.loads(pathlib.Path(argv[1]).read_text()))
    except (OSError, ValueError) as error:  # ValueError: a word holds a NUL
        os.write(descriptor, str(error).encode()[:4000])
    return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv))

"""The program ``meshnode``: a mesh on this machine from YAML, and kubectl's few words to work with it."""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

from crds.diagnostic import Code, Diagnostic, Severity
from crds.parse import DEFAULT_NAMESPACE
from istiod.ca.authority import AuthorityError
from node import acceptance, control, home, network, objects
from node.errors import MeshError
from node.mesh import Mesh
from node.options import Options
from node.store import files_of

_READY_SECONDS = 180.0
_LAST_PORT = 65_535
_INTERRUPTED = 130
"""The exit code of programs that Ctrl-C ends: 128 and the signal's number."""
_IS_UP = "is up"


def _port(text: str) -> int:
    """A port's number, or -1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not (text.isdecimal() and int(text) <= _LAST_PORT) and text != "-1":
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Commands and flags."""
    top = argparse.ArgumentParser(prog="meshnode", description="A mesh on this machine, without a cluster.")
    top.add_argument("--name", default="default", help="name of the mesh; several can be up at once")
    top.add_argument("--root", default=home.DEFAULT_ROOT, type=pathlib.Path, help="folder of all meshes' state")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring a mesh up and follow its files until Ctrl-C")
    up.add_argument("-f", "--filename", action="append", default=[], metavar="PATH", help="YAML file or folder")
    up.add_argument("-n", "--namespace", default="default", help="for objects that name none")
    up.add_argument("-d", "--detach", action="store_true", help="return when it is ready and leave it running")
    up.add_argument("--port", type=_port, default=8080, help="port of 127.0.0.1 for the ingress gateway; -1: none")
    up.add_argument("--no-gateway", action="store_true", help="bring no ingress gateway")
    up.add_argument("--no-control-plane", action="store_true", help="pods and services only")
    commands.add_parser("down", help="end a mesh, by force after a minute or a crash, and remove all that it made")
    commands.add_parser("status", help="show the pods")
    apply = commands.add_parser("apply", help="apply YAML to a mesh that is up")
    apply.add_argument("-f", "--filename", action="append", required=True, metavar="PATH", help="- is standard input")
    apply.add_argument("-n", "--namespace", default="", help="for objects that name none")
    delete = commands.add_parser("delete", help="delete an object, or those of files")
    kinds = "such as VirtualService; kubectl's virtualservice and virtualservices will do"
    delete.add_argument("kind", nargs="?", default="", help=kinds)
    delete.add_argument("object", nargs="?", default="")
    delete.add_argument("-f", "--filename", action="append", default=[], metavar="PATH", help="- is standard input")
    delete.add_argument("-n", "--namespace", default="")
    for command, text in (
        ("kill", "delete a pod"),
        ("logs", "what a container wrote"),
        ("exec", "run a command in it"),
    ):
        one = commands.add_parser(command, help=text)
        one.add_argument("pod", help="NAME, NAMESPACE/NAME or a Deployment's name")
        one.add_argument("-n", "--namespace", default="", help="the pod's; as NAMESPACE/NAME")
        one.add_argument("-c", "--container", default="")
        if command == "exec":
            one.usage = "meshnode exec [-h] [-n NAMESPACE] [-c CONTAINER] pod -- COMMAND [ARG ...]"
            one.add_argument("argv", nargs="+", metavar="ARG")
    return top


def _folder(given: argparse.Namespace) -> pathlib.Path:
    return home.folder_of(given.root, given.name)


def _say(text: str) -> None:
    """Tell the user."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


async def _up(given: argparse.Namespace) -> int:
    """Run a mesh until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    plane = not given.no_control_plane
    options = Options(
        name=given.name,
        root=given.root,
        namespace=given.namespace,
        control_plane=plane,
        gateway=plane and not given.no_gateway,
    )
    async with Mesh(given.filename, options) as mesh:
        following = [asyncio.create_task(mesh.follow(path)) for path in given.filename]
        try:
            _say(f"mesh {given.name}: starting")
            stopped = asyncio.create_task(stop.wait())
            ready = asyncio.create_task(_ready(mesh, given))
            await asyncio.wait([stopped, ready], return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                _say(ready.result())
                await stopped
            ready.cancel()
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
        _say(f"mesh {given.name}: ending")
    return 0


async def _ready(mesh: Mesh, given: argparse.Namespace) -> str:
    """Wait until the mesh serves; what to tell the user."""
    if mesh.options.gateway and given.port >= 0:
        port = await mesh.forward_gateway(given.port)
    try:
        await mesh.ready(_READY_SECONDS)
    except MeshError as error:
        return f"{error}\nmesh {given.name} keeps trying; Ctrl-C or meshnode --name {given.name} down ends it"
    lines = [mesh.table(), f"mesh {given.name} {_IS_UP}"]
    if mesh.options.gateway and given.port >= 0:
        lines.insert(1, f"ingress gateway: http://127.0.0.1:{port}/")
    return "\n".join(lines)


def _child(argv: Sequence[str], log: pathlib.Path) -> int:
    """This program in the background, in a session of its own; its process id. It outlives us on purpose."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    command = [sys.executable, "-m", "node", *argv]
    here = str(pathlib.Path(__file__).resolve().parent.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))}
    return os.posix_spawn(sys.executable, command, env, file_actions=streams, setsid=True)


def _runs(child: int) -> bool:
    """Whether our child still runs."""
    return os.waitpid(child, os.WNOHANG) == (0, 0)


async def _detach(given: argparse.Namespace, argv: Sequence[str]) -> int:
    """Start ``up`` as a process of its own and wait until it is ready."""
    if problem := network.missing():
        raise MeshError(problem)
    log = _folder(given).with_suffix(".log")
    given.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    rest = [each for each in argv if each not in {"-d", "--detach"}]
    child = _child(rest, log)
    try:
        while _runs(child):
            said = log.read_text()
            if any(line.startswith(f"mesh {given.name} ") for line in said.splitlines()):  # its last word on the start
                _say(said)
                return 0 if _IS_UP in said else 1
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        _say(f"mesh {given.name} goes on starting; meshnode --name {given.name} down ends it")
        raise
    raise MeshError(log.read_text().strip().removeprefix("meshnode: ") or "the mesh ended at once")


async def _down(given: argparse.Namespace) -> int:
    """End the mesh, and clean what others that died left."""
    folder = _folder(given)
    if problem := network.missing():
        raise MeshError(problem)
    ended = await home.end(given.name, given.root, say=_say)
    folder.with_suffix(".log").unlink(missing_ok=True)
    for name in await home.clean_dead(given.root, _say):
        _say(f"mesh {name}: removed what a dead process left")
    _say(f"mesh {given.name}: {'all of it is removed' if ended else 'is not there'}")
    return 0


async def _status(given: argparse.Namespace) -> int:
    _say(await control.ask(_folder(given), "status"))
    return 0


async def _apply(given: argparse.Namespace) -> int:
    """Apply files and say what was taken and what is wrong; 1 if something has no effect for that.

    What only the whole mesh can show, such as a host that nobody has, is in istiod's log.
    """
    bad = 0
    for file, text in _all_texts(given.filename):
        space = given.namespace
        found = await control.ask(_folder(given), "apply", text=text, file=file, namespace=space)
        documents = objects.read(text, file, space or DEFAULT_NAMESPACE)[0]
        wrong = [
            each for document in documents for each in (acceptance.refusals(document) or acceptance.findings(document))
        ]
        errors = [each for each in wrong if each.severity is Severity.ERROR or each.code is Code.UNKNOWN_KIND]
        idle = {(each.key.kind, each.key.name) for each in wrong if each.key and _takes_effect_away(each)}
        if not (found or documents):
            _say(f"{file}: holds no object")
            bad += 1
        for line in dict.fromkeys([line for line, _ in found] + [str(each) for each in wrong]):
            _say(line)
        for key in (objects.key_of(document.raw) for document in documents):
            if (key.kind, key.name) not in idle:
                _say(f"{key.kind} {key.name} applied")
        bad += len(errors) + sum(is_error for _, is_error in found)
    return 1 if bad else 0


def _takes_effect_away(found: Diagnostic) -> bool:
    """Whether a finding is one for which the object, or a part of it, is not taken."""
    whole = found.code is Code.NOT_SUPPORTED and not found.field
    return whole or found.code is Code.UNKNOWN_KIND or found.severity is Severity.ERROR


def _all_texts(names: Sequence[str]) -> list[tuple[str, str]]:
    """(file, text) of all that flags -f name.

    Raises:
        MeshError: standard input is named twice, which can be read once.
    """
    if names.count("-") > 1:
        raise MeshError("-f - can be given once: standard input is at its end after that")
    return [each for name in names for each in _texts(name)]


def _texts(name: str) -> list[tuple[str, str]]:
    """(file, text) of a file, of those in a folder, or of standard input.

    Raises:
        OSError: there is no such path.
        MeshError: it is no UTF-8.
    """
    try:
        if name == "-":
            return [(name, sys.stdin.buffer.read().decode("utf-8-sig"))]
        return [(str(file), file.read_text(encoding="utf-8-sig")) for file in files_of(pathlib.Path(name))]
    except UnicodeDecodeError as error:
        raise MeshError(f"{name}: no UTF-8: {error.reason} at byte {error.start}") from error


async def _delete(given: argparse.Namespace) -> int:
    """Delete what is named, or what stands in files; 1 if something of it is not there.

    Raises:
        MeshError: nothing is named, or both.
    """
    if bool(given.filename) is bool(given.kind and given.object):
        raise MeshError("delete wants KIND and NAME, or -f FILE")
    wanted = [(given.kind, given.object, given.namespace)]
    if given.filename:
        read = [objects.read(text, file, given.namespace) for file, text in _all_texts(given.filename)]
        for each in [each for _, found in read for each in found]:
            _say(str(each))
        wanted = [_named(document.raw) for documents, _ in read for document in documents]
    gone = [await _deleted(given, *each) for each in wanted]
    return 0 if all(gone) else 1


def _named(raw: objects.Raw) -> tuple[str, str, str]:
    """Kind, name and namespace of an object; "" for the mesh's namespace."""
    key = objects.key_of(raw)
    return key.kind, key.name, str(raw["metadata"].get("namespace") or "")


async def _deleted(given: argparse.Namespace, kind: str, name: str, namespace: str) -> bool:
    there = await control.ask(_folder(given), "delete", kind=kind, name=name, namespace=namespace)
    _say(f"{kind} {name} {'deleted' if there else 'not found'}")
    return bool(there)


async def _pod(given: argparse.Namespace) -> int:
    """kill, logs and exec."""
    argv = getattr(given, "argv", [])
    pod = f"{given.namespace}/{given.pod.rpartition('/')[2]}" if given.namespace else given.pod
    arguments = {"pod": pod, "container": given.container, "argv": argv}
    answer = await control.ask(_folder(given), given.command, **arguments)
    if given.command != "exec":
        _say(str(answer))
        return 0
    code, out, err = answer
    sys.stdout.write(out)
    sys.stderr.write(err)
    return int(code)


_COMMANDS: dict[str, Callable[[argparse.Namespace], Awaitable[int]]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "apply": _apply,
    "delete": _delete,
    "kill": _pod,
    "logs": _pod,
    "exec": _pod,
}


async def _run(given: argparse.Namespace, argv: Sequence[str]) -> int:
    if given.command == "up" and given.detach:
        return await _detach(given, argv)
    return await _COMMANDS[given.command](given)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 1 with one line on stderr where the machine or the mesh does not let us."""
    words = list(sys.argv[1:] if argv is None else argv)
    given = parser().parse_args(words)
    try:
        return asyncio.run(_run(given, words))
    except BrokenPipeError:  # | head
        sys.stderr.close()
        return 0
    except (MeshError, AuthorityError, OSError) as error:
        sys.stderr.write(f"meshnode: {error}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

"""What istiod logs, by scope, read and changed while it runs: ``--log_output_level`` and /debug/scopej (row U8).

A scope is a part of istiod by its folder (``ads``, ``ca``, ...), ``default`` all of them, or a library by its name.
Python's logging is one for the process, and so is this. Who may read is the guard's affair; only loopback may change.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from aiohttp import web

from istiod.debug import guard

PATH: Final = "/debug/scopej"
DEFAULT: Final = "default"
OURS: Final = "istiod"
_NONE: Final = logging.CRITICAL + 10
LEVELS: Final[Mapping[str, int]] = {
    "none": _NONE,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
"""Istio's names, from the least that is logged to the most."""
_FIELDS: Final = frozenset(("output_level", "stack_trace_level"))
_KNOWN: Final = frozenset((*_FIELDS, "name", "description", "log_callers"))
_MOST: Final = 10_000

Json = Mapping[str, Any]
_stacks: dict[str, int] = {}
"""Logger -> the level from which on it logs stacks, too."""
_before: dict[str, int] = {}
"""Logger -> the level that it had at the start, of those that were changed since."""
_made: Final = logging.getLogRecordFactory()


class LevelError(ValueError):
    """A scope or a level is none; the message says which there are."""


def begin(said: str) -> tuple[str, ...]:
    """Log as ``[SCOPE:]LEVEL,...`` says, which is also what a reset comes back to; gives scopes that nobody has.

    Raises:
        LevelError: a level is none.
    """
    pairs = [part.strip().rpartition(":") for part in said.split(",") if part.strip()]
    wanted = {DEFAULT: "info"} | {_scope(scope): _checked(level) for scope, _, level in pairs}
    unknown = tuple(scope for scope in wanted if not _known(scope))
    for scope in wanted.keys() - set(unknown):
        logging.getLogger(_logger(scope)).setLevel(LEVELS[wanted[scope]])
    return unknown


def reset() -> None:
    """Log as at the start."""
    _restore(list(_before))
    _stacks.clear()
    logging.setLogRecordFactory(_made)


def _restore(names: Iterable[str]) -> None:
    for name in names:
        logging.getLogger(name).setLevel(_before.pop(name))


def _known(scope: str) -> bool:
    """Whether it is a part of istiod, or a library that can be had: one may be loaded later."""
    if _logger(scope) != scope:
        return True
    try:
        return importlib.util.find_spec(scope.partition(".")[0]) is not None
    except ValueError:  # it can be no module's name
        return False


def shown() -> list[Json]:
    """All scopes that log something, as Istio's ControlZ shows them."""
    return [_one(scope) for scope in sorted({DEFAULT, *map(_of, _loggers())})]


def change(scope: str, levels: Mapping[str, str]) -> Json:
    """Give a scope other levels; those that are not said stay.

    Raises:
        LevelError: there is no such scope or level.
    """
    if scope not in {each["name"] for each in shown()}:
        raise LevelError(f"there is no scope {scope!r}")
    wanted = {field: LEVELS[_checked(level)] for field, level in levels.items() if field in _FIELDS}
    name = _logger(scope)
    if "output_level" in wanted:
        _restore([each for each in _before if each.startswith(f"{name}.")])
        _before.setdefault(name, logging.getLogger(name).level)
        logging.getLogger(name).setLevel(wanted["output_level"])
    if "stack_trace_level" in wanted:
        _stacks[name] = wanted["stack_trace_level"]
        logging.setLogRecordFactory(_with_stack)
    return _one(scope)


def extend(app: web.Application) -> None:
    """Add the pages to a server."""
    app.router.add_get(PATH, _list)
    app.router.add_get(f"{PATH}/{{scope}}", _show)
    app.router.add_put(f"{PATH}/{{scope}}", _change)
    app.router.add_delete(PATH, _reset)


async def _list(_: web.Request) -> web.Response:
    return web.json_response(shown())


async def _show(request: web.Request) -> web.Response:
    found = [each for each in shown() if each["name"] == request.match_info["scope"]]
    if not found:
        raise web.HTTPNotFound(text=f"there is no such scope; {PATH} lists them\n")
    return web.json_response(found[0])


async def _change(request: web.Request) -> web.Response:
    _require_local(request)
    try:
        levels = _read(await request.content.read(_MOST))
        return web.json_response(change(request.match_info["scope"], levels))
    except LevelError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from error


async def _reset(request: web.Request) -> web.Response:
    _require_local(request)
    reset()
    return web.json_response(shown())


def _require_local(request: web.Request) -> None:
    """Refuse who only has a token: a log that tells all of another's traffic is not for every account of the root."""
    if not guard.local(request.remote):
        raise web.HTTPForbidden(
            text="levels are changed from within the pod only: by a port-forward, as istioctl does\n"
        )


def _read(body: bytes) -> dict[str, str]:
    """The levels that are said: {"output_level": ..., "stack_trace_level": ...}, in a scope as it is shown.

    Raises:
        LevelError: it is something else.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise LevelError(f"this is no JSON: {error}") from error
    if not isinstance(found, dict) or not found.keys() <= _KNOWN or not found.keys() & _FIELDS:
        raise LevelError(f"an object with {' or '.join(sorted(_FIELDS))} is needed")
    if found.get("log_callers"):
        raise LevelError("log_callers: callers are not logged; stack_trace_level has them")
    return {field: level for field, level in found.items() if field in _FIELDS}


def _checked(level: object) -> str:
    if not isinstance(level, str) or level not in LEVELS:
        raise LevelError(f"{level!r}: a level is one of {', '.join(LEVELS)}")
    return level


def _scope(said: str) -> str:
    return DEFAULT if said in ("", "all", OURS) else said


def _logger(scope: str) -> str:
    """Our parts stand below ``istiod``; what is no part of it is a library's."""
    part = f"{OURS}.{scope}"
    if scope == DEFAULT:
        return OURS
    return part if part in sys.modules or part in logging.root.manager.loggerDict else scope


def _loggers() -> Iterator[str]:
    """All that there are by now, without those that only lead to others."""
    held = logging.root.manager.loggerDict
    return iter(sorted(name for name, found in held.items() if isinstance(found, logging.Logger)))


def _of(logger: str) -> str:
    first, *below = logger.split(".")
    return first if first != OURS else below[0] if below else DEFAULT


def _one(scope: str) -> Json:
    name = _logger(scope)
    return {
        "name": scope,
        "description": _description(scope, name),
        "output_level": _word(logging.getLogger(name).getEffectiveLevel()),
        "stack_trace_level": _word(_stack_level(name)),
        "log_callers": False,
    }


def _description(scope: str, name: str) -> str:
    if scope == DEFAULT:
        return "All of istiod, but for scopes that have a level of their own."
    if not name.startswith(f"{OURS}."):
        return f"The library {name}."
    module = sys.modules.get(name)
    return (module.__doc__ or "").strip().partition("\n")[0] if module is not None else ""


def _word(level: int) -> str:
    return next(word for word, least in LEVELS.items() if level >= least or least == logging.DEBUG)


def _with_stack(name: str, level: int, *rest: Any, **more: Any) -> logging.LogRecord:
    """A record with the stack of who logs it, where its scope wants that."""
    record = _made(name, level, *rest, **more)
    if level >= _stack_level(name) and not record.exc_info and not record.stack_info:
        frames = [each for each in traceback.extract_stack() if each.filename not in (logging.__file__, __file__)]
        record.stack_info = "Stack (most recent call last):\n" + "".join(traceback.format_list(frames)).rstrip()
    return record


def _stack_level(name: str) -> int:
    return next((_stacks[each] for each in _above(name) if each in _stacks), _NONE)


def _above(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]

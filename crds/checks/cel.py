"""CEL expressions that Envoy takes: users write them in Telemetry, and one that it refuses takes a listener with it.

What is taken is a little less than the language: Envoy has no comprehensions, no messages, few functions, and a bound
on nesting. Everything that passes here passes there (tests ask the real one). Source: the language definition of CEL,
and what Envoy said of each form.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from crds.checks import values

_LONGEST: Final = 2_048
_DEEPEST: Final = 26
"""Envoy stops at 30 or so, which it counts differently for each form."""
_TOKEN: Final = re.compile(
    r"""
    (?P<space>[ \t\r\n\f]+)
  | (?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
  | (?P<int>0x[0-9a-fA-F]+[uU]?|[0-9]+[uU]?)
  | (?P<string>[bB]?(?:"(?:[^"\\\r\n]|\\[abfnrtv\\?"'`]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[0-3][0-7]{2})*"
                      |'(?:[^'\\\r\n]|\\[abfnrtv\\?"'`]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[0-3][0-7]{2})*')
              |[rR](?:"[^"\r\n]*"|'[^'\r\n]*'))
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>&&|\|\||[=!<>]=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE,
)
_RESERVED: Final = frozenset(
    {
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "namespace"),
        *("package", "return", "var", "void", "while"),
    }
)
_CONSTANTS: Final = frozenset(("true", "false", "null"))
_TYPES: Final = frozenset(["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"])
ATTRIBUTES: Final = frozenset(
    {
        *("connection", "destination", "filter_state", "metadata", "request", "response", "source", "upstream"),
        *("upstream_filter_state", "xds"),
    }
)
"""What Envoy tells of a call."""
_ONE: Final = dict.fromkeys(
    ("bool", "bytes", "double", "duration", "dyn", "int", "size", "timestamp", "type", "uint"), 1
)
_TEXT: Final = ("contains", "endsWith", "matches", "startsWith")
_FUNCTIONS: Final[Mapping[str, int]] = MappingProxyType(
    {**_ONE, **dict.fromkeys(_TEXT, 2), "re.capture": 2, "re.captureN": 2, "re.extract": 3}
)
"""Name -> how many arguments."""
_PARTS_OF_TIME: Final = (
    *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear"),
    *("getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
)
_METHODS: Final[Mapping[str, int]] = MappingProxyType(
    {**dict.fromkeys(_PARTS_OF_TIME, 0), **dict.fromkeys(_TEXT, 1), "size": 0}
)
_ENDS_LABEL: Final = re.compile(r"\)(?:%|:\d)")
_RELATIONS: Final = frozenset(("==", "!=", "<", "<=", ">", ">=", "in"))
_LARGEST: Final = {True: 2**64 - 1, False: 2**63 - 1}
"""By whether a number is unsigned."""


class BadExpressionError(ValueError):
    """Envoy would refuse the expression; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """One that Envoy takes. ``text`` stands in one line; ``names`` are what it begins to look at, such as request."""

    text: str
    names: frozenset[str]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names that mean nothing to Envoy: what looks at them fails."""
        return tuple(sorted(self.names - ATTRIBUTES - _TYPES))


def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        BadExpressionError: Envoy would refuse it.
    """
    if len(text) > _LONGEST:
        raise BadExpressionError(f"has more than {_LONGEST} characters")
    tokens = _tokens(text)
    reader = _Reader(tokens)
    reader.whole()
    return Expression(text=_line(tokens), names=frozenset(reader.names))


def parse_label(text: str) -> Expression:
    """Read an expression that gives a label: ``string(...)`` around all of it is left out, as a label is a text anyhow.

    Raises:
        BadExpressionError: Envoy would refuse it, or it cannot stand where labels are.
    """
    inner = text.strip()
    if inner.startswith("string(") and inner.endswith(")"):
        inner = inner[len("string(") : -1]
    found = parse(inner)
    if _ENDS_LABEL.search(found.text):
        raise BadExpressionError("has )% or ): in a text, where the expression would end")
    return found


def problem(text: str, read: Callable[[str], Expression] = parse) -> str | None:
    """What is wrong with an expression; None where nothing is."""
    try:
        read(text)
    except BadExpressionError as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or _runs_on(match, text[match.end() : match.end() + 1]):
            raise BadExpressionError(f"cannot be read from {text[at : at + 20]!r} on")
        if match.lastgroup != "space":
            found.append(_Token(str(match.lastgroup), match.group()))
        at = match.end()
    return found


def _runs_on(match: re.Match[str], following: str) -> bool:
    """Whether a number goes over into a word."""
    return match.lastgroup in ("int", "float") and (following.isalnum() or following == "_")


def _line(tokens: list[_Token]) -> str:
    """The expression again, with a space between any two tokens but around dots and before brackets that call."""
    parts: list[str] = []
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else _Token("sign", ".")
        close = token.text in (".", ",", ")", "]") or before.text in (".", "(", "[", "!")
        calls = token.text in ("(", "[") and before.kind == "word" and before.text != "in"
        parts.append(token.text if close or calls or not index else f" {token.text}")
    return "".join(parts)


class _Reader:
    """Reads tokens; each method gives how deep what it has read is nested."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._open = 0
        self.names: set[str] = set()

    def whole(self) -> None:
        """One expression and nothing after it."""
        self._expression()
        if self._at < len(self._tokens):
            raise BadExpressionError(f"ends before {self._tokens[self._at].text!r}")

    def _next(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _Token("end", "")

    def _take(self, *texts: str) -> bool:
        """Whether one of these signs comes; it is read then."""
        token = self._next()
        if token.text not in texts or token.kind == "string":
            return False
        self._at += 1
        return True

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise BadExpressionError(f"lacks {text!r} before {self._next().text or 'its end'!r}")

    def _nested(self, depth: int) -> int:
        if depth > _DEEPEST:
            raise BadExpressionError(f"is nested deeper than {_DEEPEST}")
        return depth

    def _expression(self) -> int:
        self._open = self._nested(self._open + 1)
        depth = self._chain(self._either, ("?",), self._choice)
        self._open -= 1
        return self._nested(depth)

    def _chain(self, part: Callable[[], int], signs: tuple[str, ...], rest: Callable[[], int] | None = None) -> int:
        """Parts with signs between them: each sign nests what was read before."""
        depth = part()
        while self._take(*signs):
            depth = self._nested(max(depth, (rest or part)()) + 1)
        return depth

    def _choice(self) -> int:
        depth = self._either()
        self._need(":")
        return max(depth, self._expression())

    def _either(self) -> int:
        return self._chain(lambda: self._chain(self._relation, ("&&",)), ("||",))

    def _relation(self) -> int:
        return self._chain(self._sum, tuple(_RELATIONS))

    def _sum(self) -> int:
        return self._chain(lambda: self._chain(self._unary, ("*", "/", "%")), ("+", "-"))

    def _unary(self) -> int:
        for sign in ("!", "-"):
            if self._take(sign):
                while self._take(sign):
                    pass
                return self._member() + 1
        return self._member()

    def _member(self) -> int:
        depth, path = self._primary()
        while True:
            if self._take("["):
                depth, path = max(depth, self._expression()), ""
                self._need("]")
            elif self._take("."):
                depth, path = self._field(depth, path)
            else:
                return depth
            depth = self._nested(depth + 1)

    def _field(self, depth: int, path: str) -> tuple[int, str]:
        name = self._word()
        if not self._take("("):
            return depth, path and f"{path}.{name}"
        function = f"{path}.{name}"
        if function in _FUNCTIONS:
            self.names.discard(path)
            return max(depth, self._called(function, _FUNCTIONS[function])), ""
        if name not in _METHODS:
            raise BadExpressionError(f"calls {name}, which Envoy has not")
        return max(depth, self._called(name, _METHODS[name])), ""

    def _word(self) -> str:
        token = self._next()
        if token.kind != "word" or token.text in _CONSTANTS or token.text == "in":
            raise BadExpressionError(f"lacks a name before {token.text or 'its end'!r}")
        self._at += 1
        return token.text

    def _primary(self) -> tuple[int, str]:
        """A value; with its path where it is a name."""
        token = self._next()
        if token.kind in ("int", "float", "string") or token.text in _CONSTANTS:
            self._at += 1
            _check_number(token)
            return 1, ""
        if self._take("("):
            depth = self._expression()
            self._need(")")
            return self._nested(depth + 1), ""
        if self._take("["):
            return self._items("]", self._expression), ""
        if self._take("{"):
            return self._items("}", self._pair), ""
        return self._name()

    def _name(self) -> tuple[int, str]:
        name = self._word()
        if name in _RESERVED:
            raise BadExpressionError(f"{name} is a reserved word")
        if not self._take("("):
            self.names.add(name)
            return 1, name
        if name == "has":
            return self._has(), ""
        if name not in _FUNCTIONS:
            raise BadExpressionError(f"calls {name}, which Envoy has not")
        return self._called(name, _FUNCTIONS[name]), ""

    def _has(self) -> int:
        start = self._at
        depth = self._member()
        last = self._tokens[self._at - 2 : self._at]
        if self._at - start < 3 or last[0].text != "." or last[1].kind != "word":  # noqa: PLR2004 (a name, a dot, a name)
            raise BadExpressionError("has() takes a field, such as has(request.headers.a)")
        self._need(")")
        return depth + 1

    def _pair(self) -> int:
        depth = self._expression()
        self._need(":")
        return max(depth, self._expression())

    def _items(self, end: str, item: Callable[[], int]) -> int:
        depth = 1
        while not self._take(end):
            depth = max(depth, item())
            if not self._take(","):
                self._need(end)
                break
        return self._nested(depth + 1)

    def _called(self, name: str, wanted: int) -> int:
        """Arguments. A regular expression that is a text is checked."""
        depth, count = 1, 0
        while not self._take(")"):
            if count:
                self._need(",")
            start = self._at
            depth, count = max(depth, self._expression()), count + 1
            if name == "matches" and self._at == start + 1:
                _check_regex(self._tokens[start].text, count, wanted)
        if count != wanted:
            raise BadExpressionError(f"{name} takes {wanted} arguments, not {count}")
        return self._nested(depth + 1)


def _check_number(token: _Token) -> None:
    if token.kind != "int":
        return
    unsigned = token.text[-1] in "uU"
    if int(token.text.rstrip("uU"), 16 if token.text.startswith("0x") else 10) > _LARGEST[unsigned]:
        raise BadExpressionError(f"{token.text} is too large")


def _check_regex(text: str, place: int, wanted: int) -> None:
    if place != wanted or text[:1] not in "\"'rR":
        return
    pattern = text[2:-1] if text[0] in "rR" else str(ast.literal_eval(re.sub(r"\\([?`])", r"\1", text)))
    if (wrong := values.regex(pattern)) is not None:
        raise BadExpressionError(f"{pattern!r}: {wrong}")

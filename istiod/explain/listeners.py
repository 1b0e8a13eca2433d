"""From a connection to one filter chain, and through the end of its TLS.

Envoy narrows the chains step by step (port, address, server name, transport, application protocol, source) and never
takes a step back: see the v3 API of FilterChainMatch.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from istiod.explain import held, matching
from istiod.explain.answer import Lost
from istiod.explain.call import Call, Direction, Tls, UndecidedError
from istiod.explain.held import Held
from wire import names

Chain = listener_components_pb2.FilterChain
Match = listener_components_pb2.FilterChainMatch
_CAPTURE: Final = {Direction.OUTBOUND: names.PROXY_OUTBOUND_PORT, Direction.INBOUND: names.PROXY_INBOUND_PORT}
_ANY: Final = {4: "0.0.0.0", 6: "::"}  # noqa: S104 (how listeners say it)
_TLS_INSPECTOR, _HTTP_INSPECTOR = "tls_inspector", "http_inspector"


def choose(found: Held, call: Call) -> tuple[listener_pb2.Listener | None, str]:
    """The listener that gets the connection, and why that one.

    Captured connections come to 15001 and are handed to the listener of their destination, if there is one.
    """
    if call.direction is Direction.GATEWAY:
        return _at(found, call.destination, call.port), f"listens at port {call.port}"
    capture = _at(found, call.destination, _CAPTURE[call.direction]) or _at(
        found, "127.0.0.1", _CAPTURE[call.direction]
    )
    if capture is None or not capture.use_original_dst.value:
        return capture, "takes what is captured on its way in"
    own = _at(found, call.destination, call.port)
    if own is None:
        return capture, f"no listener is for {call.destination}:{call.port}: this one takes the rest"
    exact = (call.destination, call.port) in addresses(own)
    return own, f"is for {call.destination}:{call.port}" if exact else f"is for port {call.port} of any address"


def addresses(listener: listener_pb2.Listener) -> list[tuple[str, int]]:
    """Where a listener listens."""
    every = [listener.address, *(one.address for one in listener.additional_addresses)]
    return [
        (one.socket_address.address, one.socket_address.port_value) for one in every if one.HasField("socket_address")
    ]


def _at(found: Held, address: str, port: int) -> listener_pb2.Listener | None:
    for wanted in (address, _ANY[ipaddress.ip_address(address).version], _ANY[6]):
        for one in found.listeners:
            if (wanted, port) in addresses(one):
                return one
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What the listener's filters found in the first bytes."""

    transport: str = "raw_buffer"
    sni: str = ""
    alpn: tuple[str, ...] = ()


def _look(listener: listener_pb2.Listener, call: Call) -> _Seen:
    looking = {
        each.name.rpartition(".")[2]
        for each in listener.listener_filters
        if not (each.HasField("filter_disabled") and _holds(each.filter_disabled, call.port))
    }
    if call.tls is not Tls.NONE:
        return _Seen(transport="tls", sni=call.sni.lower(), alpn=call.alpn) if _TLS_INSPECTOR in looking else _Seen()
    if _HTTP_INSPECTOR in looking and call.http:
        return _Seen(alpn=("h2c" if call.http2 else "http/1.1",))
    return _Seen()


def _holds(predicate: listener_components_pb2.ListenerFilterChainMatchPredicate, port: int) -> bool:
    kind = predicate.WhichOneof("rule")
    if kind == "destination_port_range":
        return predicate.destination_port_range.start <= port < predicate.destination_port_range.end
    if kind == "or_match":
        return any(_holds(one, port) for one in predicate.or_match.rules)
    raise UndecidedError(f"a listener filter that is off where {kind} holds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chain that takes a connection, None where none does, and the others."""

    chain: Chain | None
    lost: tuple[Lost, ...]
    why: str = ""


def chain(listener: listener_pb2.Listener, call: Call) -> Choice:
    """Which chain of a listener takes a connection.

    Raises:
        UndecidedError: the listener chooses its chains in a way that is not known.
    """
    if listener.HasField("filter_chain_matcher"):
        raise UndecidedError(f"listener {listener.name} chooses its chains by a matcher")
    seen = _look(listener, call)
    left, lost = list(listener.filter_chains), list[Lost]()
    for step in _STEPS:
        left, gone = _narrowed(left, step, call, seen)
        lost += gone
    if len(left) > 1:
        raise UndecidedError(f"{len(left)} filter chains of listener {listener.name} fit alike")
    why = "the only one that fits" if lost else "takes everything"
    if left:
        return Choice(chain=left[0], lost=tuple(lost), why=why)
    default = listener.default_filter_chain if listener.HasField("default_filter_chain") else None
    return Choice(chain=default, lost=tuple(lost), why="for what no other chain takes")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One step of the narrowing. ``rank``: None rules a chain out, 0 means that it does not ask, more is better."""

    what: Callable[[Match], str]
    have: Callable[[Call, _Seen], str]
    rank: Callable[[Match, Call, _Seen], int | None]


def _narrowed(chains: list[Chain], step: _Step, call: Call, seen: _Seen) -> tuple[list[Chain], list[Lost]]:
    ranks = [step.rank(one.filter_chain_match, call, seen) for one in chains]
    best = max((rank for rank in ranks if rank is not None), default=None)
    left, lost = [], []
    for one, rank in zip(chains, ranks, strict=True):
        if rank is not None and rank == best:
            left.append(one)
        elif rank is None:
            lost.append(
                Lost(name=one.name, reason=f"is for {step.what(one.filter_chain_match)}, not {step.have(call, seen)}")
            )
        else:
            lost.append(Lost(name=one.name, reason=f"another is for {step.have(call, seen)} in particular"))
    return left, lost


def _port(match: Match, call: Call, _: _Seen) -> int | None:
    if not match.HasField("destination_port"):
        return 0
    return 1 if match.destination_port.value == call.port else None


def _inside(address: str, ranges: Iterable[address_pb2.CidrRange]) -> int | None:
    held_by = matching.within(address, ranges)
    return None if held_by is None else held_by + 1


def _address(match: Match, call: Call, _: _Seen) -> int | None:
    return _inside(call.destination, match.prefix_ranges) if match.prefix_ranges else 0


def _server_name(match: Match, _: Call, seen: _Seen) -> int | None:
    if not match.server_names:
        return 0
    return max((rank for name in match.server_names if (rank := _name_rank(name, seen.sni)) is not None), default=None)


def _name_rank(wanted: str, sni: str) -> int | None:
    if not sni:
        return None
    if wanted == sni:
        return len(wanted) + 1
    return len(wanted) - 1 if wanted.startswith("*.") and sni.endswith(wanted[1:]) and sni != wanted[1:] else None


def _transport(match: Match, _: Call, seen: _Seen) -> int | None:
    if not match.transport_protocol:
        return 0
    return 1 if match.transport_protocol == seen.transport else None


def _protocols(match: Match, _: Call, seen: _Seen) -> int | None:
    if not match.application_protocols:
        return 0
    found = (len(seen.alpn) - index for index, one in enumerate(seen.alpn) if one in match.application_protocols)
    return next(found, None)


def _source(match: Match, call: Call, _: _Seen) -> int | None:
    if match.direct_source_prefix_ranges or match.source_ports or match.source_type:
        raise UndecidedError("a filter chain for some sources only")
    return _inside(call.source, match.source_prefix_ranges) if match.source_prefix_ranges else 0


def _ranges(ranges: Iterable[address_pb2.CidrRange]) -> str:
    return ", ".join(f"{one.address_prefix}/{one.prefix_len.value}" for one in ranges)


_STEPS: Final = (
    _Step(
        what=lambda match: f"port {match.destination_port.value}",
        have=lambda call, _: f"port {call.port}",
        rank=_port,
    ),
    _Step(what=lambda match: _ranges(match.prefix_ranges), have=lambda call, _: f"{call.destination}", rank=_address),
    _Step(
        what=lambda match: f"server name {', '.join(match.server_names)}",
        have=lambda _, seen: f"server name {seen.sni}" if seen.sni else "a connection without a server name",
        rank=_server_name,
    ),
    _Step(
        what=lambda match: "TLS" if match.transport_protocol == "tls" else "plain text",
        have=lambda _, seen: "TLS" if seen.transport == "tls" else "plain text",
        rank=_transport,
    ),
    _Step(
        what=lambda match: f"protocol {', '.join(match.application_protocols)}",
        have=lambda _, seen: f"protocol {', '.join(seen.alpn)}" if seen.alpn else "an unknown protocol",
        rank=_protocols,
    ),
    _Step(what=lambda match: _ranges(match.source_prefix_ranges), have=lambda call, _: call.source, rank=_source),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What a chain and a client make of TLS. ``failure`` says why there is no connection."""

    text: str
    failure: str = ""


def handshake(found: Chain, call: Call) -> Handshake:
    """The TLS of a chain against what the client speaks.

    Raises:
        UndecidedError: the chain's transport socket is not known.
    """
    if not found.HasField("transport_socket"):
        if call.tls is Tls.NONE:
            return Handshake(text="plain text")
        return Handshake(text=f"{call.tls.value} is passed on as it is")
    context = server_tls(found.transport_socket)
    asks = context.require_client_certificate.value
    if call.tls is Tls.NONE:
        return Handshake(text="TLS is asked for", failure="the client speaks plain text where TLS is asked for")
    if asks and call.tls is not Tls.MUTUAL:
        return Handshake(text="mTLS is asked for", failure="the client has no certificate where one is asked for")
    wanted = client_names(context.common_tls_context)
    if call.tls is Tls.MUTUAL and asks and not call.unnamed and not accepts(wanted, call.principal):
        return Handshake(text="mTLS", failure=f"the client is {call.principal}, not {said(wanted)}")
    return Handshake(text="mTLS: the client proves who it is" if asks else "TLS ends here")


def server_tls(socket: base_pb2.TransportSocket) -> tls_pb2.DownstreamTlsContext:
    """The TLS settings of a chain.

    Raises:
        UndecidedError: it is another kind of socket.
    """
    found = tls_pb2.DownstreamTlsContext()
    if not socket.typed_config.Unpack(found):
        raise UndecidedError(f"transport socket {socket.name}")
    return found


def client_tls(socket: base_pb2.TransportSocket) -> tls_pb2.UpstreamTlsContext | None:
    """The TLS settings of a cluster; None where it speaks plain text.

    Raises:
        UndecidedError: it is another kind of socket.
    """
    found, wrapped = tls_pb2.UpstreamTlsContext(), upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport()
    if socket.typed_config.Unpack(found):
        return found
    if socket.typed_config.Unpack(wrapped):
        return client_tls(wrapped.transport_socket)
    if not socket.name or socket.name.endswith("raw_buffer"):
        return None
    raise UndecidedError(f"transport socket {socket.name}")


def client_names(
    context: tls_pb2.CommonTlsContext,
) -> tuple[common_pb2.SubjectAltNameMatcher, ...]:
    """Subject names that the other side must have one of; none: any."""
    if context.HasField("combined_validation_context"):
        return tuple(context.combined_validation_context.default_validation_context.match_typed_subject_alt_names)
    return tuple(context.validation_context.match_typed_subject_alt_names)


def accepts(wanted: Iterable[common_pb2.SubjectAltNameMatcher], name: str) -> bool:
    """Whether a name is one of those that are wanted; without any, all are."""
    every = tuple(wanted)
    return not every or any(matching.string(one.matcher, name) for one in every)


def said(wanted: Iterable[common_pb2.SubjectAltNameMatcher]) -> str:
    """The names that are wanted, for people."""
    return " or ".join(_texts(wanted))


def _texts(wanted: Iterable[common_pb2.SubjectAltNameMatcher]) -> Iterator[str]:
    for one in wanted:
        yield matching.words(one.matcher)


def filters(found: Chain) -> Iterator[tuple[str, object]]:
    """The chain's network filters: name, and configuration where its type is known."""
    for each in found.filters:
        yield each.name, held.unpacked(each.typed_config)

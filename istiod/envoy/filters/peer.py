r"""The substitute for Istio's metadata exchange: who calls, told in a header between two proxies (decision 22).

A client's proxy adds the header on routes to the mesh; a server's proxy takes it apart for metrics and takes it away.
It is believed on mesh mTLS only, and never about the namespace, which the certificate proves. Anywhere else it is
taken away unread. The filters also note which protocol a request speaks.

What the certificate says is put behind what the client says, and ``unknown`` behind that: so one pattern a part is
enough. An expression (CEL) that takes the namespace out of the certificate costs several times as much as all of them,
as Envoy compiles its pattern for each request (decision 41).

A pattern that does not match leaves the whole header as the value: each of them takes any bytes (``\C*``) in the end.
To the RE2 of Envoy 1.38 ``.`` is no byte that is not UTF-8.
"""

from __future__ import annotations

from typing import Final

from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2 as early_pb2
from envoy.type.matcher.v3 import regex_pb2

from istiod.envoy import wellknown
from wire import telemetry

NAME: Final = "istio.metadata_exchange"
"""Istio's name, which patches of users look for; what it is made of is the type's business."""
NAMESPACE: Final = "istio.peer"
"""Namespace of dynamic metadata that holds a client's ``wire.telemetry.PARTS``, and ``protocol``."""
_Config = header_to_metadata_pb2.Config
_PART: Final = r"[\w.-]+"  # a bound on its length would make seven large programs of it; the header has one
_PROVEN: Final = f"|%DOWNSTREAM_PEER_URI_SAN%|{telemetry.UNKNOWN}"
"""What the proxy adds. No part has its separator: a client that sends one has a namespace, its certificate's, alone."""


def _constant(value: str, key: str) -> header_to_metadata_pb2.Config.KeyValuePair:
    return _Config.KeyValuePair(metadata_namespace=NAMESPACE, key=key, value=value)


def _matched(pattern: str, key: str) -> header_to_metadata_pb2.Config.KeyValuePair:
    """The pattern's group; nothing where the header is otherwise, so that what was said before stands."""
    rewrite = regex_pb2.RegexMatchAndSubstitute(
        pattern=regex_pb2.RegexMatcher(regex=rf"^(?:{pattern}|\C*)$"), substitution=r"\1"
    )
    return _Config.KeyValuePair(metadata_namespace=NAMESPACE, key=key, regex_value_rewrite=rewrite)


def _rules(header: str, key: str, pattern: str, otherwise: str) -> tuple[header_to_metadata_pb2.Config.Rule, ...]:
    constant = _constant(otherwise, key)
    return (
        _Config.Rule(header=header, on_header_present=constant, on_header_missing=constant),
        _Config.Rule(header=header, on_header_present=_matched(pattern, key)),
    )


def _heard(pattern: str, key: str) -> header_to_metadata_pb2.Config.Rule:
    """A part of the header; ``unknown``, its end, where the rest is not as it has to be."""
    regex = rf"^(?:{pattern}\|{telemetry.UNKNOWN}|\C*({telemetry.UNKNOWN}))$"
    rewrite = regex_pb2.RegexMatchAndSubstitute(pattern=regex_pb2.RegexMatcher(regex=regex), substitution=r"\1\2")
    pair = _Config.KeyValuePair(metadata_namespace=NAMESPACE, key=key, regex_value_rewrite=rewrite)
    return _Config.Rule(header=telemetry.HEADER, on_header_present=pair)


def _part(place: int) -> str:
    """All that a client says, one part of it as a group, then the certificate's."""
    parts = [_PART] * len(telemetry.PARTS)
    parts[place] = f"({_PART})"
    return ";".join(parts) + r",\|[^|]*"


_PROTOCOL: Final = _rules("content-type", "protocol", r"application/(grpc)(?:[+;]\C*)?", "http")
_CLIENT: Final = [_heard(_part(place), part) for place, part in enumerate(telemetry.PARTS) if part != "namespace"]
_LAST: Final = _heard(r"\C*\|spiffe://[^/,|]*/ns/([^/,|]+)/[^|]*", "namespace")
_LAST.remove = True


def _noting(*rules: header_to_metadata_pb2.Config.Rule, name: str) -> hcm_pb2.HttpFilter:
    return hcm_pb2.HttpFilter(name=name, typed_config=wellknown.packed(_Config(request_rules=rules)))


TELLING: Final = hcm_pb2.HttpFilter(
    name=NAME,
    typed_config=wellknown.packed(
        header_mutation_pb2.HeaderMutation(
            mutations=header_mutation_pb2.Mutations(
                request_mutations=[
                    mutation_rules_pb2.HeaderMutation(
                        append=base_pb2.HeaderValueOption(
                            header=base_pb2.HeaderValue(key=telemetry.HEADER, value=f"%ENVIRONMENT({telemetry.PEER})%"),
                            append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
                        )
                    )
                ]
            )
        )
    ),
)
"""Says who calls; routes that lead out of the mesh switch it off."""
PROTOCOL: Final = _noting(*_PROTOCOL, name="istio.protocol")
"""Notes the protocol, where no client is looked at."""
HEARING: Final = _noting(*_PROTOCOL, *_CLIENT, _LAST, name=NAME)
"""Notes protocol and client of a request that came by mesh mTLS."""


def _early(name: str, mutation: mutation_rules_pb2.HeaderMutation) -> extension_pb2.TypedExtensionConfig:
    return extension_pb2.TypedExtensionConfig(
        name=name, typed_config=wellknown.packed(early_pb2.HeaderMutation(mutations=[mutation]))
    )


STRIPPED: Final = _early("istio.no_peer", mutation_rules_pb2.HeaderMutation(remove=telemetry.HEADER))
"""Takes the header of strangers away before anything reads it."""
PROVEN: Final = _early(
    "istio.proven_peer",
    mutation_rules_pb2.HeaderMutation(
        append=base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key=telemetry.HEADER, value=_PROVEN),
            append_action=base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD,
        )
    ),
)
"""Has a client's certificate say who it is, before anything reads what the client says itself."""

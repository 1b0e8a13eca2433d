r"""The substitute for Istio's metadata exchange: who calls, told in a header between two proxies (decision 22).

A client's proxy adds the header on routes to the mesh; a server's proxy notes it for metrics and takes it away, if it
is as it has to be, and the agent takes it apart (``wire.labels``). It is believed on mesh mTLS only, and never about
the namespace, which the certificate proves. Anywhere else it is taken away unread. The filters also note which requests
are gRPC.

A pattern that does not match leaves the whole header as the value: each of them takes any bytes (``\C*``) in the end,
and nothing is noted then. To the RE2 of Envoy 1.38 ``.`` is no byte that is not UTF-8.
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
"""Namespace of dynamic metadata that holds ``CLIENT``, and ``protocol``."""
CLIENT: Final = "client"
"""What a client says of itself: ``wire.telemetry.PARTS``."""
_Config = header_to_metadata_pb2.Config
_PART: Final = r"[\w.-]+"  # a bound on its length would make a large program of it; the header has one


def _matched(header: str, pattern: str, key: str) -> header_to_metadata_pb2.Config.Rule:
    """The pattern's group; nothing is noted where the header is otherwise, or not there."""
    rewrite = regex_pb2.RegexMatchAndSubstitute(
        pattern=regex_pb2.RegexMatcher(regex=rf"^(?:{pattern}|\C*)$"), substitution=r"\1"
    )
    pair = _Config.KeyValuePair(metadata_namespace=NAMESPACE, key=key, regex_value_rewrite=rewrite)
    return _Config.Rule(header=header, on_header_present=pair)


_PROTOCOL: Final = _matched("content-type", r"application/(grpc)(?:[+;]\C*)?", "protocol")
_HEARD: Final = _matched(telemetry.HEADER, f"({';'.join([_PART] * len(telemetry.PARTS))})", CLIENT)
_HEARD.remove = True


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
PROTOCOL: Final = _noting(_PROTOCOL, name="istio.protocol")
"""Notes the protocol, where no client is looked at."""
HEARING: Final = _noting(_PROTOCOL, _HEARD, name=NAME)
"""Notes protocol and client of a request that came by mesh mTLS."""


STRIPPED: Final = extension_pb2.TypedExtensionConfig(
    name="istio.no_peer",
    typed_config=wellknown.packed(
        early_pb2.HeaderMutation(mutations=[mutation_rules_pb2.HeaderMutation(remove=telemetry.HEADER)])
    ),
)
"""Takes the header of strangers away before anything reads it."""

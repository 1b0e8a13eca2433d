"""What the corpus comes to, code by code: seen also where no cases of Istio's are at hand."""

from __future__ import annotations

import re
from typing import Final

from tests.analysis import corpus, test_properties

EXPECTED: Final = """
IST0002: CustomResourceDefinition tlsroutes.gateway.networking.k8s.io, Sidecar shop/one, VirtualService shop/reviews
IST0101: AuthorizationPolicy shop/who, VirtualService shop/reviews
IST0106: ServiceEntry shop/out, Sidecar shop/one, VirtualService shop/reviews
IST0108: Pod shop/reviews
IST0110: Sidecar shop/one, Sidecar shop/two
IST0112: VirtualService shop/reviews
IST0118: Service shop/reviews
IST0123: Namespace shop
IST0125: Pod shop/reviews
IST0128: DestinationRule shop/reviews
IST0129: DestinationRule shop/reviews
IST0132: VirtualService shop/reviews
IST0134: ServiceEntry shop/out
IST0136: Pod shop/reviews, Service shop/reviews
IST0137: Deployment shop/reviews
IST0138: Gateway shop/gateway
IST0139: MutatingWebhookConfiguration istio-sidecar-injector
IST0140: VirtualService shop/reviews
IST0144: Pod shop/reviews
IST0145: Gateway shop/gateway, Gateway shop/rival
IST0147: Pod shop/reviews
IST0149: VirtualService shop/reviews
IST0150: Service shop/reviews2
IST0151: EnvoyFilter shop/patch
IST0152: EnvoyFilter shop/patch
IST0153: EnvoyFilter shop/patch
IST0154: EnvoyFilter shop/patch
IST0157: Telemetry shop/logs
IST0161: Gateway shop/gateway, Gateway shop/rival
IST0162: Gateway shop/gateway, Gateway shop/rival
IST0163: MutatingWebhookConfiguration istio-sidecar-injector, ValidatingWebhookConfiguration istiod-default-validator
IST0164: MutatingWebhookConfiguration istio-sidecar-injector
IST0171: AuthorizationPolicy shop/who, Gateway shop/api, HTTPRoute shop/route
IST0175: Deployment shop/reviews
IST0176: CustomResourceDefinition tlsroutes.gateway.networking.k8s.io
IST0177: ServiceEntry shop/out, ServiceEntry shop/out2
M0108: DestinationRule shop/reviews, WasmPlugin shop/plugin
M0150: DestinationRule shop/reviews
M0154: AuthorizationPolicy shop/who
M0159: ServiceEntry shop/out
"""


def test_each_code_is_found_at_the_objects_that_it_is_about() -> None:
    found: dict[str, set[str]] = {}
    for line in test_properties.findings(corpus.documents()):
        said = re.match(r"\w+ \[(\w+)\] \(([^)]*)\)", line)
        assert said is not None
        found.setdefault(said.group(1), set()).add(said.group(2))
    given = "\n".join(f"{code}: {', '.join(sorted(objects))}" for code, objects in sorted(found.items()))
    assert given == EXPECTED.strip()

"""One object at least of each kind that analyzers look at, with most of the fields that they read."""

from __future__ import annotations

import textwrap
from typing import Any

from crds import text

_YAML = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: reviews, namespace: shop, annotations: {galley.istio.io/analyze-suppress: IST0101}}
    spec:
      hosts: [reviews, a.com]
      gateways: [mesh, gateway, other/gone]
      exportTo: [., shop]
      http:
      - name: one
        match: [{uri: {prefix: /a}, headers: {"@request.auth.claims.x": {exact: y}}, port: 80}]
        fault: {delay: {percent: 5, fixedDelay: 1s}}
        mirrors: [{destination: {host: gone}}]
        route: [{destination: {host: reviews, subset: v2, port: {number: 1}}, weight: 1}]
      - match: [{uri: {prefix: /a/b}, method: {exact: GET}, queryParams: {q: {prefix: x}}}]
        mirror: {host: gone}
        route: [{destination: {host: reviews}}]
      tls: [{match: [{port: 443, sniHosts: [a.com]}], route: [{destination: {host: a.com}}]}]
      tcp: [{match: [{port: 1}], route: [{destination: {host: a.com}}]}]
    ---
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: reviews, namespace: shop}
    spec:
      host: reviews
      exportTo: [.]
      trafficPolicy:
        tls: {mode: SIMPLE}
        portLevelSettings: [{port: {number: 9080}, tls: {mode: MUTUAL, credentialName: x}}]
      subsets: [{name: v1, labels: {version: v1, topology.kubernetes.io/zone: z}}]
    ---
    apiVersion: networking.istio.io/v1
    kind: Gateway
    metadata: {name: gateway, namespace: shop}
    spec:
      selector: {istio: gateway}
      servers:
      - {port: {number: 80, name: http, protocol: HTTP}, hosts: [./a.com, '*/b.com']}
      - {port: {number: 443, name: s, protocol: HTTPS}, hosts: [b.com], tls: {mode: SIMPLE, credentialName: cert}}
    ---
    apiVersion: networking.istio.io/v1
    kind: Gateway
    metadata: {name: rival, namespace: shop}
    spec:
      selector: {istio: gateway, more: label}
      servers:
      - {port: {number: 443, name: s, protocol: HTTPS}, hosts: [b.com], tls: {mode: SIMPLE, credentialName: cert}}
    ---
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {name: out, namespace: shop}
    spec:
      hosts: [out.com, '*.com']
      exportTo: [.]
      ports: [{number: 80, name: tcp, protocol: TCP}, {number: 81, name: none}]
      resolution: STATIC
      endpoints: [{address: 1.2.3.4, labels: {version: v1}}]
      workloadSelector: {labels: {app: x}}
    ---
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {name: out2, namespace: shop}
    spec: {hosts: [out.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
    ---
    apiVersion: networking.istio.io/v1
    kind: WorkloadEntry
    metadata: {name: vm, namespace: shop}
    spec: {address: 1.2.3.4, labels: {app: x}}
    ---
    apiVersion: networking.istio.io/v1
    kind: Sidecar
    metadata: {name: one, namespace: shop}
    spec:
      workloadSelector: {labels: {app: reviews}}
      egress: [{hosts: [./*]}]
      outboundTrafficPolicy: {egressProxy: {host: x, port: {number: 1}}}
    ---
    apiVersion: networking.istio.io/v1
    kind: Sidecar
    metadata: {name: two, namespace: shop}
    spec: {workloadSelector: {labels: {version: v1}}, egress: [{hosts: [./*]}]}
    ---
    apiVersion: networking.istio.io/v1alpha3
    kind: EnvoyFilter
    metadata: {name: patch, namespace: shop}
    spec:
      configPatches:
      - applyTo: HTTP_FILTER
        match: {context: ANY, proxy: {proxyVersion: x}, listener: {filterChain: {filter: {name: f}}}}
        patch: {operation: INSERT_BEFORE, value: {name: lua}}
      - {applyTo: HTTP_ROUTE, patch: {operation: ADD, value: {}}}
      - {applyTo: HTTP_ROUTE, patch: {operation: REMOVE}}
      - {applyTo: CLUSTER, patch: {operation: REPLACE, value: {a: b}}}
    ---
    apiVersion: networking.istio.io/v1beta1
    kind: ProxyConfig
    metadata: {name: default, namespace: shop}
    spec: {selector: {matchLabels: {app: reviews}}, image: {imageType: debug}}
    ---
    apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {name: who, namespace: shop}
    spec:
      selector: {matchLabels: {app: reviews}}
      rules:
      - from: [{source: {namespaces: [shop, gone*], notNamespaces: ['*gone'], principals: [a]}}]
        to: [{operation: {ports: ['80']}}]
    status: {conditions: [{type: WaypointAccepted, status: 'False', reason: r, message: m}]}
    ---
    apiVersion: security.istio.io/v1
    kind: PeerAuthentication
    metadata: {name: peers, namespace: shop}
    spec: {mtls: {mode: STRICT}}
    ---
    apiVersion: security.istio.io/v1
    kind: RequestAuthentication
    metadata: {name: tokens, namespace: shop}
    spec: {jwtRules: [{issuer: a, jwksUri: https://a.com/keys}], selector: {matchLabels: {app: gone}}}
    ---
    apiVersion: telemetry.istio.io/v1
    kind: Telemetry
    metadata: {name: logs, namespace: shop}
    spec:
      selector: {matchLabels: {app: reviews}}
      accessLogging: [{}]
      tracing: [{providers: [{name: light}]}]
    ---
    apiVersion: extensions.istio.io/v1alpha1
    kind: WasmPlugin
    metadata: {name: plugin, namespace: shop}
    spec: {url: a, selector: {matchLabels: {istio: gateway}}}
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {name: api, namespace: shop}
    spec: {listeners: [{hostname: a.com}]}
    status: {conditions: [{type: Programmed, status: 'False', reason: r, message: m}]}
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: HTTPRoute
    metadata: {name: route, namespace: shop}
    status: {parents: [{conditions: [{type: Accepted, status: 'False', reason: r, message: m}]}]}
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: GRPCRoute
    metadata: {name: route, namespace: shop}
    ---
    apiVersion: v1
    kind: Namespace
    metadata: {name: shop, labels: {istio-injection: enabled, istio.io/rev: r}}
    ---
    apiVersion: v1
    kind: Node
    metadata: {name: node, labels: {topology.kubernetes.io/zone: z}}
    ---
    apiVersion: v1
    kind: Pod
    metadata:
      name: reviews
      namespace: shop
      labels: {app: reviews, version: v1}
      annotations: {sidecar.istio.io/interceptionMode: X, istio.io/unknown: x, proxy.istio.io/config: '{}'}
    spec:
      nodeName: node
      serviceAccountName: reviews
      securityContext: {runAsUser: 1337}
      containers: [{name: istio-proxy, image: auto, ports: [{name: web, containerPort: 9080}]}]
      initContainers: [{name: istio-init}]
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: gateway, namespace: shop, labels: {istio: gateway, more: label}}
    spec: {containers: [{name: istio-proxy, image: proxy}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: reviews, namespace: shop, annotations: {networking.istio.io/exportTo: "., other"}}
    spec: {selector: {app: reviews}, ports: [{port: 9080, name: x, targetPort: web}, {port: 80, protocol: UDP}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: reviews2, namespace: shop}
    spec: {type: ExternalName, selector: {app: reviews}, ports: [{port: 9081, name: tcp, targetPort: web}]}
    ---
    apiVersion: v1
    kind: Secret
    metadata: {name: cert, namespace: shop, labels: {istio/multiCluster: "true"}}
    data: {tls.crt: eHg=, tls.key: eHg=}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: istio-sidecar-injector, namespace: istio-system}
    data: {values: '{"global": {"hub": "h", "tag": 1, "proxy": {"image": "p"}}}'}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: reviews, namespace: shop, labels: {app: istiod}}
    spec:
      template:
        metadata: {labels: {app: reviews, version: v1}}
        spec: {containers: [{name: istio-proxy, image: auto, env: [{name: A, value: b}]}]}
    ---
    apiVersion: apiextensions.k8s.io/v1
    kind: CustomResourceDefinition
    metadata:
      name: tlsroutes.gateway.networking.k8s.io
      annotations: {gateway.networking.k8s.io/bundle-version: v1.4.1-rc.1}
    spec: {group: rbac.istio.io, names: {kind: RbacConfig}}
    ---
    apiVersion: admissionregistration.k8s.io/v1
    kind: MutatingWebhookConfiguration
    metadata: {name: istio-sidecar-injector}
    webhooks:
    - name: a.sidecar-injector.istio.io
      clientConfig: {service: {namespace: istio-system, name: istiod}}
      namespaceSelector: {matchExpressions: [{key: istio.io/rev, operator: In, values: [r]}]}
      objectSelector: {matchLabels: {istio.io/rev: r}}
    - {name: b.sidecar-injector.istio.io, clientConfig: {url: 'https://1.2.3.4/inject'}}
    - {name: c.sidecar-injector.istio.io, clientConfig: {url: 'https://[/inject'}}
    ---
    apiVersion: admissionregistration.k8s.io/v1
    kind: ValidatingWebhookConfiguration
    metadata: {name: istiod-default-validator}
    webhooks: [{name: v, clientConfig: {}}]
    """


def documents() -> list[Any]:
    """The objects, each a mapping of its own."""
    return [found for chunk in text.split(textwrap.dedent(_YAML)) if (found := text.load(chunk.text)) is not None]

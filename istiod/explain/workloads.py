"""Who calls whom, as the mesh knows it: workloads by what people call them, where names lead, and ports of gateways."""

from __future__ import annotations

from collections.abc import Sequence

from istiod.config.proxy import Peer, Proxy
from istiod.explain import question
from istiod.explain.journey import Party, Resolved
from istiod.mesh.context import MeshContext
from istiod.mesh.service import Service
from istiod.mesh.workloads import PodWorkload
from wire import node as nodes


def is_router(context: MeshContext, pod: PodWorkload) -> bool:
    """Whether a Gateway selects the pod, or it asks for a gateway's proxy, which no Gateway may select yet."""
    selectors = (one.selector for one in context.gateways.gateways)
    return pod.gateway or any(selector and selector <= pod.labels for selector in selectors)


def party(context: MeshContext, pod: PodWorkload) -> Party:
    """A pod that has an address."""
    router = is_router(context, pod)
    return Party(
        name=f"{pod.name}.{pod.namespace}",
        namespace=pod.namespace,
        address=pod.addresses[0],
        identity=pod.identity,
        proxied=pod.tls or router,
        router=router,
    )


def proxy(context: MeshContext, pod: PodWorkload) -> Proxy:
    """A pod's Envoy, as it would connect."""
    kind, domain = ("router" if is_router(context, pod) else "sidecar"), context.model.settings.dns_domain
    node_id = f"{kind}~{pod.addresses[0]}~{pod.name}.{pod.namespace}~{pod.namespace}.svc.{domain}"
    metadata = {
        "NAME": pod.name,
        "NAMESPACE": pod.namespace,
        "LABELS": dict(pod.labels),
        "INSTANCE_IPS": ",".join(pod.addresses),
        "SERVICE_ACCOUNT": pod.identity.rpartition("/")[2],
        "WORKLOAD_NAME": pod.workload.name,
    }
    return Proxy(peer=Peer(address=pod.addresses[0], identity=None), node=nodes.parse(node_id, metadata))


def find(pods: Sequence[PodWorkload], said: str, namespace: str) -> PodWorkload | None:
    """The pod of ``[TYPE/]NAME[.NAMESPACE]`` (of a workload, a pod, a label ``app`` or ``istio``), or None."""
    kind, _, name = said.rpartition("/")
    for one in pods:
        if f"{one.name}.{one.namespace}" == name and kind in ("", "pod", "pods", "po"):
            return one
    name, _, home = name.partition(".")
    home = home or namespace
    near = [one for one in pods if home in ("", one.namespace)]
    for fits in (_is_workload, _is_labelled, _begins):
        for one in near:
            if fits(one, name):
                return one
    return None


def _is_workload(one: PodWorkload, name: str) -> bool:
    return name in (one.workload.name, one.name, one.name.rpartition("-")[0])


def _is_labelled(one: PodWorkload, name: str) -> bool:
    labels = dict(one.labels)
    return name in (labels.get("app"), labels.get("istio"), labels.get("app.kubernetes.io/name"))


def _begins(one: PodWorkload, name: str) -> bool:
    return one.name.startswith(f"{name}-")


def resolve(context: MeshContext, host: str, port: int, namespace: str) -> Resolved:
    """See istiod.explain.journey.Mesh."""
    found = _service(context, host, namespace)
    if found is None:
        note = f"no object defines {host}: DNS is taken to give {question.OUTSIDE}"
        return Resolved(address=question.OUTSIDE, note=note, endpoints=((question.OUTSIDE, port),))
    several = context.endpoints.of(found.host, found.namespace, port)
    endpoints = tuple((one.address, one.port) for one in several)
    addresses = [one.partition("/")[0] for one in (*found.addresses, *found.allocated)]
    if addresses:
        return Resolved(address=addresses[0], endpoints=endpoints)
    if endpoints and found.headless:
        note = f"{found.host} is headless: the first of {len(endpoints)} endpoints is taken"
        return Resolved(address=endpoints[0][0], note=note, endpoints=endpoints[:1])
    note = f"{found.host} has no address: DNS is taken to give {question.OUTSIDE}"
    return Resolved(address=question.OUTSIDE, note=note, endpoints=endpoints)


def _service(context: MeshContext, host: str, namespace: str) -> Service | None:
    """As the search list of a pod's resolv.conf finds it."""
    domain = context.model.settings.dns_domain
    plain = host.rstrip(".").lower()
    for name in (plain, f"{plain}.{namespace}.svc.{domain}", f"{plain}.svc.{domain}", f"{plain}.{domain}"):
        if (found := context.model.registry.find(name, namespace)) is not None:
            return found
    return None


def listened(context: MeshContext, one: Party, port: int) -> int:
    """See istiod.explain.journey.Mesh."""
    for service in context.model.registry.in_namespace(one.namespace):
        for endpoint in context.endpoints.of(service.host, service.namespace, port):
            if endpoint.address == one.address:
                return endpoint.port
    return port

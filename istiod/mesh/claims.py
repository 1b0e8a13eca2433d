"""Whether a proxy is the pod that it says it is, as far as the mesh knows pods (DESIGN section 7, features row D10).

The transport has proved namespace and service account; whose pod of that account it is comes from the node id alone. A
pod that the mesh knows has to have the proved account. A pod that it does not know is taken at its word.
"""

from __future__ import annotations

from collections.abc import Iterable

from crds.service_entry import WorkloadEntry
from istiod.config.proxy import Proxy
from istiod.mesh.context import MeshContext
from istiod.mesh.workloads import PodWorkload
from wire import spiffe


def refusal(context: MeshContext, proxy: Proxy, *, pods_known: bool = False) -> str:
    """Why the proxy may not be served, naming both sides; "" if it may, and always without a proved identity."""
    proved = proxy.peer.identity
    name = (proxy.node.namespace, proxy.node.name)
    found = pod(context, proxy)
    if proved is None:
        return ""
    if found is None:
        return f"there is no pod {'/'.join(name)} that {proved} could be" if pods_known else ""
    account = spiffe.parse(found.identity).service_account
    if account != proved.service_account:
        return f"pod {'/'.join(name)} runs as service account {account}, the certificate is of {proved}"
    if pods_known and found.addresses and not set(proxy.node.addresses) & set(found.addresses):
        return (
            f"pod {'/'.join(name)} has {', '.join(found.addresses)}, the node claims {', '.join(proxy.node.addresses)}"
        )
    return ""


def lives(pods: Iterable[PodWorkload], entries: Iterable[WorkloadEntry], who: spiffe.Identity, address: str) -> bool:
    """Whether the mesh knows a workload of this identity at this IP: a pod, or a virtual machine's WorkloadEntry.

    Only such a one may renew its certificate on the strength of that certificate: without a token nothing else says
    that it is not a copy, or that of a pod that is gone.
    """
    for each in pods:
        if each.identity == str(who) and address in each.addresses:
            return True
    for entry in entries:
        account = entry.spec.service_account or "default"
        named = (entry.metadata.namespace, account) == (who.namespace, who.service_account)
        if named and entry.spec.address == address:
            return True
    return False


def pod(context: MeshContext, proxy: Proxy) -> PodWorkload | None:
    """The pod that the proxy says it is, if the mesh knows that one."""
    return context.backends.pods.get((proxy.node.namespace, proxy.node.name))

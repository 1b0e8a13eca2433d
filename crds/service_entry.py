"""ServiceEntry, WorkloadEntry and WorkloadGroup: what the platform's registry does not know (features row H).

Source: istio.networking service_entry.proto, workload_entry.proto and workload_group.proto, all versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from crds.meta import Ignored, Model, Object, UInt32
from crds.pod_spec import Probe


class ServicePort(Model):
    """A port of the host (H1). ``target_port`` 0 is the same as number."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class LabelsSelector(Model):
    """``workloadSelector.labels`` (H5)."""

    labels: Mapping[str, str] = Field(default_factory=dict)


class WorkloadEntrySpec(Model):
    """One endpoint (H4, H10): IP, DNS name or ``unix://`` path; port name -> number."""

    address: str = ""
    ports: Mapping[str, UInt32] = Field(default_factory=dict)
    labels: Mapping[str, str] = Field(default_factory=dict)
    network: str = ""
    locality: str = ""
    weight: UInt32 = 0
    service_account: str = ""


class ServiceEntrySpec(Model):
    """Hosts, their ports and where they are (H1-H6)."""

    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    workload_selector: LabelsSelector | None = None


class AllocatedAddress(Model):
    """An address that the mesh gave to a host (H7)."""

    value: str = ""
    host: str = ""


class ServiceEntryStatus(Model):
    """What the control plane wrote: allocated addresses; the rest is for people."""

    addresses: tuple[AllocatedAddress, ...] = ()
    conditions: Ignored = None
    validation_messages: Ignored = None
    observed_generation: Ignored = None


class ServiceEntry(Object):
    """networking.istio.io ServiceEntry."""

    spec: ServiceEntrySpec = ServiceEntrySpec()
    status: ServiceEntryStatus | None = None


class WorkloadCondition(Model):
    """What somebody found out about a workload; only its type and value count."""

    type: str = ""
    status: str = ""
    reason: Ignored = None
    message: Ignored = None
    last_probe_time: Ignored = None
    last_transition_time: Ignored = None
    observed_generation: Ignored = None


class WorkloadEntryStatus(Model):
    """What is known of a workload: condition ``Healthy`` is its agent's or the user's word, the rest is for people."""

    conditions: tuple[WorkloadCondition, ...] = ()
    addresses: Ignored = None
    validation_messages: Ignored = None
    observed_generation: Ignored = None


class WorkloadEntry(Object):
    """networking.istio.io WorkloadEntry."""

    spec: WorkloadEntrySpec = WorkloadEntrySpec()
    status: WorkloadEntryStatus | None = None


class WorkloadGroupMetadata(Model):
    """What the entries of a group get (H11)."""

    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)


class WorkloadGroupSpec(Model):
    """Workloads of one sort outside of the cluster (H11): their entries, and how their agents probe them."""

    metadata: WorkloadGroupMetadata = WorkloadGroupMetadata()
    template: WorkloadEntrySpec | None = None
    probe: Probe | None = None


class WorkloadGroup(Object):
    """networking.istio.io WorkloadGroup."""

    spec: WorkloadGroupSpec = WorkloadGroupSpec()
    status: Ignored = None

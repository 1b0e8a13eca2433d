"""Workloads that make pods from a template. The mesh itself does not read them; the local node does.

Source: Kubernetes API reference, apps/v1 and batch/v1.
"""

from __future__ import annotations

from crds.meta import Bool, Ignored, Int, LabelSelector, Model, Object, ObjectMeta, Opaque
from crds.pod_spec import PodSpec


class PodTemplateSpec(Model):
    """The pod to make."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class WorkloadSpec(Model):
    """Replicas and template, as Deployment, ReplicaSet, StatefulSet and DaemonSet share them."""

    replicas: Int | None = None
    selector: LabelSelector | None = None
    template: PodTemplateSpec = PodTemplateSpec()
    min_ready_seconds: Int = 0
    revision_history_limit: Int | None = None


class DeploymentSpec(WorkloadSpec):
    """A Deployment's wish."""

    strategy: Opaque = None
    paused: Bool = False
    progress_deadline_seconds: Int | None = None


class Deployment(Object):
    """apps/v1 Deployment."""

    spec: DeploymentSpec = DeploymentSpec()
    status: Ignored = None


class ReplicaSet(Object):
    """apps/v1 ReplicaSet."""

    spec: WorkloadSpec = WorkloadSpec()
    status: Ignored = None


class StatefulSetSpec(WorkloadSpec):
    """A StatefulSet's wish."""

    service_name: str = ""
    pod_management_policy: str = ""
    update_strategy: Opaque = None
    volume_claim_templates: Opaque = None
    persistent_volume_claim_retention_policy: Opaque = None
    ordinals: Opaque = None


class StatefulSet(Object):
    """apps/v1 StatefulSet."""

    spec: StatefulSetSpec = StatefulSetSpec()
    status: Ignored = None


class DaemonSetSpec(WorkloadSpec):
    """A DaemonSet's wish."""

    update_strategy: Opaque = None


class DaemonSet(Object):
    """apps/v1 DaemonSet."""

    spec: DaemonSetSpec = DaemonSetSpec()
    status: Ignored = None


class JobSpec(Model):
    """A Job's wish."""

    template: PodTemplateSpec = PodTemplateSpec()
    selector: LabelSelector | None = None
    parallelism: Int | None = None
    completions: Int | None = None
    completion_mode: str | None = None
    backoff_limit: Int | None = None
    backoff_limit_per_index: Int | None = None
    max_failed_indexes: Int | None = None
    active_deadline_seconds: Int | None = None
    ttl_seconds_after_finished: Int | None = None
    suspend: Bool | None = None
    manual_selector: Bool | None = None
    pod_failure_policy: Opaque = None
    pod_replacement_policy: str | None = None
    success_policy: Opaque = None
    managed_by: str | None = None


class Job(Object):
    """batch/v1 Job."""

    spec: JobSpec = JobSpec()
    status: Ignored = None

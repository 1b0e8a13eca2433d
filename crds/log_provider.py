"""Extension providers of MeshConfig that access logs go to (features row Q7).

Source: istio.mesh.v1alpha1 config.proto, MeshConfig.ExtensionProvider.
"""

from __future__ import annotations

from crds.meta import Bool, Model, Tree, UInt32


class LogFormat(Model):
    """A line of text, or the fields of a JSON object."""

    text: str | None = None
    labels: Tree | None = None


class EnvoyFileAccessLogProvider(Model):
    """A file of the proxy; absent: standard output, and Istio's line."""

    path: str = ""
    log_format: LogFormat | None = None
    omit_empty_values: Bool = False


class _LogService(Model):
    """A service that takes logs by gRPC: a host or NAMESPACE/HOST of the registry, and a port of it."""

    service: str = ""
    port: UInt32 = 0
    log_name: str = ""


class EnvoyTcpGrpcV3LogProvider(_LogService):
    """Envoy's access-log service, told of connections."""

    filter_state_objects_to_log: tuple[str, ...] = ()


class EnvoyHttpGrpcV3LogProvider(_LogService):
    """Envoy's access-log service, told of requests."""

    filter_state_objects_to_log: tuple[str, ...] = ()
    additional_request_headers_to_log: tuple[str, ...] = ()
    additional_response_headers_to_log: tuple[str, ...] = ()
    additional_response_trailers_to_log: tuple[str, ...] = ()


class EnvoyOpenTelemetryLogProvider(_LogService):
    """A collector that speaks OTLP: the text is the record's body, the labels are its attributes."""

    log_format: LogFormat | None = None

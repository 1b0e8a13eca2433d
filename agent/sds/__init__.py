"""Serving the workload certificate to Envoy over a unix socket."""

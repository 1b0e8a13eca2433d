"""The control plane: objects in, Envoy configuration out. Six hops, one way (docs/architecture.md)."""

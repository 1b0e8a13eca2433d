"""Scope -> Envoy resources, one module per xDS type. Decides nothing: what to send stands in the scope."""

"""Keeps what proxies refused, and what serves instead, over restarts and for all replicas (features row Z4)."""

"""Asks the real Envoy about EnvoyFilters under admission, and in files (feature row Z1, decision 35)."""

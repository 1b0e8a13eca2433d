"""``istioctl test``: declarative traffic tests for mesh YAML (feature row Z8)."""

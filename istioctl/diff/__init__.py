"""``istioctl diff``: what a change of YAML would do to every proxy, before it is applied (row Z9)."""

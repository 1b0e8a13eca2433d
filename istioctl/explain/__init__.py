"""``istioctl explain``: what happens to a request, and which line of YAML decides each step (pains 6, 7, 9)."""

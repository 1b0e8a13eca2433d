"""Generated message classes of the protocols that are ours to define (make generate)."""

"""The only writer to the Kubernetes API: status, Events, Secrets, ConfigMaps, caBundle, Lease, TokenReview."""

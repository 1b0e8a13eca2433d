"""A real Kubernetes for tests, from package registries alone: programs, certificates, control plane, node, images."""

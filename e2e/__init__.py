"""User stories in a real Kubernetes cluster, and the cluster itself: built, started and ended by e2e.harness."""

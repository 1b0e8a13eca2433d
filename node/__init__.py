"""A Linux machine as a mesh without a cluster: pods are network namespaces, containers are processes. No kubelet."""

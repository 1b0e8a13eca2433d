"""Istio's configuration analysis: what is wrong with a set of objects, as ``istioctl analyze`` says it."""

"""Tells a pod that ends when nobody sends to it any more (features row Z5)."""

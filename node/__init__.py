"""A Linux machine as a mesh without a cluster: pods as network namespaces, containers as processes, same YAML.

It is no kubelet and does not grow into one. ``Mesh`` is the whole for tests and the demo; __main__ is its command line.
"""

from node.mesh import Mesh
from node.options import Options

__all__ = ["Mesh", "Options"]

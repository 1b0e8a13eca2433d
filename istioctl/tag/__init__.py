"""``istioctl tag``: further names of a revision, which move without relabelling namespaces (row U8)."""

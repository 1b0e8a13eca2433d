"""The agent's DNS proxy: answers for hosts of the mesh, asks the pod's name servers for all others (row C12)."""

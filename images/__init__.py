"""What is in the container images: one definition for the Dockerfile and for clusters that have no registry."""

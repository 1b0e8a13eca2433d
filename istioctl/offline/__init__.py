"""A mesh out of files: what istiod would compile for each workload of a folder of YAML, without any cluster."""

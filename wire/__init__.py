"""What two programs must agree on: names, ports, node ids, identities. Standard library only, nothing of ours."""

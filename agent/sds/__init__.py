"""The workload's identity: key and certificate from istiod's CA, handed to Envoy over a unix socket as SDS secrets."""

"""Inside the pod (program name pilot-agent): identity, bootstrap, Envoy, capture. Imports wire and protos only."""

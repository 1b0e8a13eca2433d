"""The engine of traffic tests that sends each request through real Envoys, in a mesh on this machine."""

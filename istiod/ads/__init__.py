"""Serving xDS: the stream as a state machine without I/O, and its thin gRPC shell."""

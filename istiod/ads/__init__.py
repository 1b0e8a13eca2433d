"""Serving xDS: the stream as a state machine without I/O, and who may have one."""

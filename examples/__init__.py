"""Runnable samples: BookInfo on the local mesh, and the demonstration that `make demo` plays."""

"""Admission: pod in, patch out (inject), object in, Diagnostics out (validate)."""

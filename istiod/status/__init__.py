"""Diagnostics -> what .status and Events of the objects should say. Pure."""

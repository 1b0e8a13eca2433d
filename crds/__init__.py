"""The API: pydantic models of every object we read, and the checks that need one object only. Pure.

Cross-object findings (a missing subset, two rules for one host) belong to istiod.mesh.
"""

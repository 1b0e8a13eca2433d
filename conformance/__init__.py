"""How close the project comes to cases that nobody here wrote: ``python -m conformance`` (docs/conformance.md).

The cases and the tools that judge traffic stand in a folder outside the repository; nothing of them is copied.
"""

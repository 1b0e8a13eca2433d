"""The command line: what users type to inject, inspect and explain the mesh (features U1 to U9)."""

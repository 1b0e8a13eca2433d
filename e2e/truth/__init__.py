"""Holds what every proxy has against what the API server alone says it must have.

Shares no code with the control plane: what is wrong in both would otherwise look right.
"""

"""Traffic capture: rules as data (rules), applied by a thin shell (apply)."""

"""What operators look at: readiness, diagnostics, dumps."""

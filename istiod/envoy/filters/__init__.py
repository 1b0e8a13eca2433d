"""One module per HTTP filter; none knows another."""

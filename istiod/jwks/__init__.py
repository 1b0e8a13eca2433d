"""Key sets of token issuers: fetched off the hot path, refreshed, and kept while their servers are down (row N13)."""

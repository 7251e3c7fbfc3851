"""How cost grows with records, shards, slices, requests and workers."""

"""Train so that forgetting is cheap: isolated shards, sliced chains, content-addressed checkpoints."""

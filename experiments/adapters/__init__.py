"""What shards of adapters over a published language model keep, and what forgetting costs them."""

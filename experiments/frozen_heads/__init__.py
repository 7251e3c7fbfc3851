"""Heads on frozen features, in shards and not, beside networks trained end to end."""

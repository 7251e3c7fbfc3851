"""Approximate unlearning: one paper a file, each with its honest guarantee."""

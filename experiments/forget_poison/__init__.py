"""Poisoned records, found and forgotten: a backdoor, and wrong labels."""

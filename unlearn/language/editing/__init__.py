"""Model editing: one paper a file; what they share is in `base`, which of them there are in `registry`."""

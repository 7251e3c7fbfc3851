"""One paper a file; the functions are reached from `unlearn.methods`."""

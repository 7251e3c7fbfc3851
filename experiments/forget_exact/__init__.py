"""What one deletion costs where the model is solved from exact sums, and whether many deletions drift."""

"""What it costs to take in more than fits in memory: seconds, and memory of every process."""

"""Published or claimed figures, each reproducible by one command."""

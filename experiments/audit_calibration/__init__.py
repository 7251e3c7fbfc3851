"""How often bounds on epsilon are too high: see README.md."""

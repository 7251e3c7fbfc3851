"""How many removals a certificate supports, and whether it is true."""

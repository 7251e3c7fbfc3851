"""What an audit costs: shadow models in a stack, the test alone, and an audit of the demonstration."""

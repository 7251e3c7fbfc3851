"""What an audit may claim about epsilon: lower bounds from evidence, upper bounds from proofs, and their comparison."""

"""Audits: what deleting really achieved, measured; a test refutes a claim or does not, and confirms none."""

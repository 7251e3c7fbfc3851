"""Audits: what forgetting really achieved, measured: scores in, verdicts with intervals out, and no claim confirmed."""

"""Audits: what an unlearning method achieved, measured; scores in, verdicts with intervals out."""

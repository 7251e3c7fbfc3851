"""Measures what forgetting achieved: pure statistics, scores in, verdicts with intervals out."""

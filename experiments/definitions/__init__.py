"""Differential privacy and the definitions of unlearning, on measured models."""

"""Approximate methods of unlearning on the same work, each beside retraining."""

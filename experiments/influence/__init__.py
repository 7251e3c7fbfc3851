"""Influence functions held against retraining, against other libraries, and against the clock."""

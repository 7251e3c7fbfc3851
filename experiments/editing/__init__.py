"""Eleven editors on a world of facts: what each changes, keeps and costs."""
